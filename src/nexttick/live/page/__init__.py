"""The page of a live run."""
