"""`python -m nexttick` is the command `nexttick`."""

import sys

from nexttick.cli import main

sys.exit(main())
