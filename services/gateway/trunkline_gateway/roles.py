"""The two roles of the gateway's image: each loads its settings and runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from trunkline_runtime.config import load
from trunkline_runtime.logs import configure


async def _serve() -> None:
    from trunkline_gateway.app import serve  # noqa: PLC0415 -- a worker needs none of it
    from trunkline_gateway.config import GatewayConfig  # noqa: PLC0415

    config = load(GatewayConfig, "gateway")
    configure("gateway", config.log_format, config.log_level)
    await serve(config)


async def _work() -> None:
    from trunkline_gateway.pipeline.app import run_worker  # noqa: PLC0415
    from trunkline_gateway.pipeline.config import WorkerConfig  # noqa: PLC0415

    config = load(WorkerConfig, "worker")
    configure("worker", config.log_format, config.log_level)
    await run_worker(config)


ROLES: Mapping[str, Callable[[], Awaitable[None]]] = {"serve": _serve, "work": _work}
