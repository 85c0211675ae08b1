"""What is fitted on prepared ticks: networks and baselines, and the run folder that keeps them."""
