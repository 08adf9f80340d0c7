"""Lists, fetches and verifies models: python -m trunkline_audio.models."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from trunkline_audio.models import names
from trunkline_audio.models.delivery import fetch
from trunkline_audio.models.errors import ModelDamaged, ModelError, ModelMissing, of_disk
from trunkline_audio.models.lookup import COMMAND, SETTING, default_folder, locate, verify
from trunkline_audio.models.pins import PINS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, 1 when something failed, 2 when something was asked that cannot be."""
    told = _parser().parse_args(arguments)
    try:
        given = getattr(told, "folder", None)
        folder = (Path(os.path.expanduser(given)) if given else default_folder()).absolute()
    except ModelError as error:
        return _fail(str(error))
    try:
        if told.command == "fetch":
            return _fetch(told.models, folder)
        return _verify(told.model, folder) if told.command == "verify" else _list(folder)
    except OSError as error:
        return _fail(of_disk(error, folder))


def _parser() -> argparse.ArgumentParser:
    # It may stand before the command or after it, so neither place may have a default that hides the other.
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--folder", default=argparse.SUPPRESS, help=f"folder of models; else {SETTING}, else the user's cache"
    )
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Speech models on this machine.", parents=[where]
    )
    parser.set_defaults(command="list")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _command(commands, "list", "name, size, languages and place of each model (the default)", where)
    add = _command(
        commands, "fetch", "bring models here: pinned ones byte for byte, others as they are now", where
    )
    add.add_argument(
        "models", nargs="*", default=["base"], metavar="NAME", help="base unless others are named"
    )
    check = _command(commands, "verify", "hold the files against their digests", where)
    check.add_argument(
        "model", nargs="?", default="", metavar="NAME", help="a name or a folder; else all here"
    )
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    where: argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    added = commands.add_parser(name, help=text, description=text.capitalize() + ".", parents=[where])
    added.set_defaults(command=name)
    return added


def _fetch(models: Sequence[str], folder: Path) -> int:
    unknown = [model for model in models if names.repository(model) is None]
    if unknown:
        return _fail(f"no model {', '.join(unknown)}: allowed are {names.allowed()}", 2)
    status = 0
    for model in models:
        try:
            fetch(model, folder, _say)
        except ModelError as error:
            status = _fail(str(error))
    return status


def _verify(model: str, folder: Path) -> int:
    models = [model] if model else _here(folder)
    if not models:
        _say(f"no model is in {folder}")
    status = 0
    for each in models:
        try:
            verify(each, folder)
            _print(f"{each}: ok")
        except ModelError as error:
            _print(str(error))
            status = 1
    return status


def _list(folder: Path) -> int:
    here = _here(folder)
    rows = [("name", "size", "languages", "where")]
    rows += [_row(model, folder) for model in [*names.KNOWN, *(m for m in here if m not in names.KNOWN)]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        _print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))
    return 0


def _row(model: str, folder: Path) -> tuple[str, str, str, str]:
    known = names.KNOWN.get(model)
    size = (
        f"{PINS[model].bytes / 1e6:.0f} MB" if model in PINS else f"~{known.megabytes} MB" if known else "?"
    )
    try:
        path = locate(model, folder)
        size, where = f"{sum(file.stat().st_size for file in path.iterdir()) / 1e6:.0f} MB", str(path)
    except ModelMissing:
        where = "not fetched"
    except ModelDamaged as error:
        where = f"damaged: {error}"
    return model, size, known.languages if known else "?", where


def _here(folder: Path) -> list[str]:
    """Models that are in the folder; what else lies there is not ours."""
    if not folder.is_dir():
        return []
    found = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    models = [names.of_folder(path.name) for path in found]
    return sorted(models, key=lambda model: (model not in names.KNOWN, model))


def _print(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough (`| head`); what Python flushes at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _fail(line: str, status: int = 1) -> int:
    _say(line)
    return status


if __name__ == "__main__":
    # A fetch that is told to stop clears up first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
