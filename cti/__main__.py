"""`python -m cti` is `cti`."""

import sys

from cti.cli import main

if __name__ == "__main__":
    sys.exit(main())
