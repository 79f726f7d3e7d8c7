"""`python -m sam_core`: the command line."""

import sys

from sam_core.process import share_cores

if __name__ == "__main__":
    share_cores()  # before anything imports torch

    from sam_core.cli.main import main

    sys.exit(main())
