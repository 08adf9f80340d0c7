"""Runs the ai service: python -m trunkline_ai."""

from trunkline_runtime import command

from trunkline_ai.app import serve
from trunkline_ai.config import AiConfig, load_config
from trunkline_ai.names import SERVICE

if __name__ == "__main__":
    command.main(SERVICE, AiConfig, serve, load=lambda reach: load_config(reach=reach))
