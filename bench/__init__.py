"""Benchmarks: `python -m bench.<name>` prints a table, with `--json` one JSON object."""

import os

# As the commands do: threads that wait in a busy loop slow each other down on a shared machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
