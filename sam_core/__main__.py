"""`python -m sam_core`: the command line."""

import sys

from sam_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
