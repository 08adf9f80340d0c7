"""Runs the ai service: python -m trunkline_ai."""

from trunkline_runtime import config, logs, server

from trunkline_ai.app import serve
from trunkline_ai.config import AiConfig


async def main() -> None:
    """Reads the settings and serves."""
    settings = config.load(AiConfig, "ai")
    logs.configure("ai", settings.log_format, settings.log_level)
    await serve(settings)


server.run(main)
