"""Runs the audio service: python -m trunkline_audio."""

from trunkline_runtime import command

from trunkline_audio import app
from trunkline_audio.config import SERVICE, AudioConfig, load_config

if __name__ == "__main__":
    command.main(SERVICE, AudioConfig, app.serve, load=lambda reach: load_config(reach=reach))
