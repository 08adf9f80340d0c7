"""`python -m trunkline_gateway serve|work`."""

import sys

from trunkline_gateway.roles import main

if __name__ == "__main__":
    main(sys.argv[1:])
