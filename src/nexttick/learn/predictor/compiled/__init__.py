"""The step of a network as a small compiled machine."""
