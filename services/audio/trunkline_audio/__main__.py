"""Runs the audio service: python -m trunkline_audio."""

from trunkline_runtime import command

from trunkline_audio import app
from trunkline_audio.config import AudioConfig, load_config
from trunkline_audio.names import SERVICE

if __name__ == "__main__":
    command.main(SERVICE, AudioConfig, app.serve, load=lambda reach: load_config(reach=reach))
