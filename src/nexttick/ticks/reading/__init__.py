"""The steps of reading a file: what it is packed in, its dialect, its columns, their values."""
