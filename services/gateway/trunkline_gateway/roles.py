"""The two roles of the gateway's image: each loads its settings and runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from trunkline_runtime import command

if TYPE_CHECKING:
    from trunkline_gateway.config import GatewayConfig

# The loop that answers and the thread that writes take turns on the interpreter. At Python's 5 ms a turn, a commit
# that is done waits for the loop to pause; at this, 25 to 48 % more webhooks a second were committed in paired runs.
_SWITCH_SECONDS = 0.0005


_PROGRAM = "python -m trunkline_gateway"


def _serve(arguments: Sequence[str]) -> None:
    from trunkline_gateway.config import GatewayConfig  # noqa: PLC0415 -- a worker needs none of it
    from trunkline_gateway.servers import serve  # noqa: PLC0415

    async def run(config: GatewayConfig) -> None:
        sys.setswitchinterval(_SWITCH_SECONDS)
        await serve(config)

    command.main("gateway", GatewayConfig, run, program=f"{_PROGRAM} serve", arguments=arguments)


def _work(arguments: Sequence[str]) -> None:
    from trunkline_gateway.pipeline.app import serve  # noqa: PLC0415
    from trunkline_gateway.pipeline.config import WorkerConfig  # noqa: PLC0415

    command.main("worker", WorkerConfig, serve, program=f"{_PROGRAM} work", arguments=arguments)


ROLES: Mapping[str, Callable[[Sequence[str]], None]] = {"serve": _serve, "work": _work}


def main(arguments: Sequence[str]) -> None:
    """Run the role that the first argument names; exits with a usage line for any other.

    Without a role, --help lists the settings of both.
    """
    if arguments in (["--help"], ["-h"]):
        for role in ROLES.values():
            role(["--help"])
        return
    if arguments == ["--version"]:
        _work(arguments)
        return
    if not arguments or arguments[0] not in ROLES:
        command.refuse(f"{_PROGRAM} serve|work")
    ROLES[arguments[0]](arguments[1:])
