"""`python -m nexttick` is the command `nexttick`."""

import sys

from nexttick.cli.main import main

sys.exit(main())
