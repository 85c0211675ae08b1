"""Training: from prepared ticks to a predictor and its run folder."""
