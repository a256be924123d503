"""`python -m karat` is the command `karat`. Knows nothing else."""

import sys

from karat.cli import main

if __name__ == "__main__":
    sys.exit(main())
