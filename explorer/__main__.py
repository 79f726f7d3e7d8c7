"""`python -m explorer`: the browser application."""

import sys

from sam_core.process import share_cores

if __name__ == "__main__":
    share_cores()  # before anything imports torch

    from explorer.cli import main

    sys.exit(main())
