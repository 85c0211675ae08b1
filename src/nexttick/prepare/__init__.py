"""Ticks to what a model sees."""
