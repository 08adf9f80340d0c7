"""Runs the tenant service as a process, from its settings to its end."""

from __future__ import annotations

from trunkline_runtime import logs

from trunkline_tenant.app import build
from trunkline_tenant.config import SERVICE, load_config


async def serve() -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError."""
    config = load_config()
    logs.configure(SERVICE, config.log_format, config.log_level)
    app = await build(config)
    try:
        await app.start()
        await app.serve_until_stopped()
    finally:
        await app.close()
