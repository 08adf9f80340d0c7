"""Runs the command: `python -m trunkline_cli`."""

from trunkline_cli.main import main

main()
