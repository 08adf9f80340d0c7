"""Runs the audio service: python -m trunkline_audio."""

from trunkline_runtime import config, logs, server

from trunkline_audio import app
from trunkline_audio.config import AudioConfig


async def _main() -> None:
    settings = config.load(AudioConfig, "audio")
    logs.configure("audio", settings.log_format, settings.log_level)
    await app.serve(settings)


server.run(_main)
