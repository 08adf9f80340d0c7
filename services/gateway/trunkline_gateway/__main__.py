"""`python -m trunkline_gateway serve|work`."""

import sys

from trunkline_runtime.server import run

from trunkline_gateway.roles import ROLES

if len(sys.argv) != 2 or sys.argv[1] not in ROLES:
    sys.exit("usage: python -m trunkline_gateway serve|work")
run(ROLES[sys.argv[1]])
