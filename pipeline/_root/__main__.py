"""`python -m rexnet_export` is `rexnet-export`."""

import sys

from rexnet_export.apps.export.command import main

if __name__ == "__main__":
    sys.exit(main())
