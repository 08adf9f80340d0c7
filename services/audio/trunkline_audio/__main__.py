"""Runs the audio service: python -m trunkline_audio."""

from trunkline_runtime import command

from trunkline_audio import app
from trunkline_audio.config import AudioConfig

if __name__ == "__main__":
    command.main("audio", AudioConfig, app.serve)
