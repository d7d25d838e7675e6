"""``python -m ptychoflow``: the command line, where the entry point is not on the path."""

import sys

from .cli.main import main

sys.exit(main())
