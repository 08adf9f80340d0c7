"""Runs the tenant service as a process, from its settings to its end."""

from __future__ import annotations

from trunkline_tenant.app import build
from trunkline_tenant.config import TenantConfig


async def serve(config: TenantConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError."""
    app = await build(config)
    try:
        await app.start()
        await app.serve_until_stopped()
    finally:
        await app.close()
