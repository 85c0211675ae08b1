"""How good a probability is."""
