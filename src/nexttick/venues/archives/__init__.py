"""Archives of past trades, in files."""
