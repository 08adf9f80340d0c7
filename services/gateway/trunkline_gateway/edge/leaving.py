"""`python -m trunkline_gateway.edge.leaving` waits before a gateway is stopped, until its spool is empty.

An orchestrator runs it beside the gateway, before SIGTERM. By then the gateway gets no new requests, and its drain
moves what is in the spool into the store. A store that is down cannot take it: then the spool's volume keeps it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.request import urlopen

ROWS = "trunkline_spool_rows"
SETTING = "TRUNKLINE_GATEWAY_METRICS_ADDRESS"
_DEFAULT = "127.0.0.1:9090"
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 -- where it listens; it is asked on loopback
_LOOK_SECONDS = 0.25


def spooled(address: str) -> int | None:
    """Return how many receipts the spool of the gateway at this address holds; None if it does not tell."""
    host, _, port = address.rpartition(":")
    try:
        with urlopen(f"http://{_ANY.get(host, host)}:{port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    return next((int(float(line.split()[1])) for line in lines if line.startswith(f"{ROWS} ")), None)


def leave(
    rows: Callable[[], int | None],
    *,
    least: float,
    most: float,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> int | None:
    """Wait for at least `least` seconds, and then until the spool is empty, but `most` seconds in all.

    Return how many receipts are left; None if the gateway does not tell.
    """
    began = now()
    sleep(least)
    while (left := rows()) and now() - began < most:
        sleep(_LOOK_SECONDS)
    return left


def main(arguments: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> int:
    """Wait; 0 if the spool is empty, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m trunkline_gateway.edge.leaving", description=__doc__)
    parser.add_argument(
        "--least", type=float, default=5.0, help="how long to wait in any case, until no new requests come"
    )
    parser.add_argument("--most", type=float, default=60.0, help="the longest time to wait, in seconds")
    given = parser.parse_args(arguments)
    address = env.get(SETTING) or _DEFAULT
    left = leave(lambda: spooled(address), least=given.least, most=given.most)
    if left:
        print(f"{left} receipts are still in the spool", file=sys.stderr)  # noqa: T201 -- the orchestrator shows it
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
