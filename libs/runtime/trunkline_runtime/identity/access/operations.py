"""Who may call the RPCs of long operations.

Every service serves them, each for its own operations; the gateway's pipeline waits for those that it starts.
"""

from trunkline_runtime.identity.access.rules import package, read, write

RULES = package(
    "google.longrunning",
    Operations={
        "GetOperation": read("name"),
        "ListOperations": read("name", scans=True),
        "WaitOperation": read("name"),
        "CancelOperation": write("name"),
        "DeleteOperation": write("name"),
    },
)
