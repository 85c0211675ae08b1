"""What spread, fees and latency leave of a prediction."""
