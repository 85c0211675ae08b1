"""The journal of a live run: written, read back, shown."""
