"""The lecture's command: `python run.py --type rnn ticks.csv` is `nexttick run --type rnn …`."""

import sys

from nexttick.cli.main import main

sys.exit(main(["run", *sys.argv[1:]]))
