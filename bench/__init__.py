"""Benchmarks: `python -m bench.<name>` prints a table, with `--json` one JSON object."""
