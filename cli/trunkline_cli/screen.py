"""What a person sees of a command: progress in a terminal, plain lines in a pipe, and errors in plain words."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Failure(Exception):
    """The command could not do it; the text is all that is shown. The process exits with `code`."""

    code = 1


class Misuse(Failure):
    """The command was not given what it needs."""

    code = 2


class Say(Protocol):
    """Tells what is being done."""

    def __call__(self, text: str, *, passing: bool = False) -> None:
        """Show a text in place of the one before; a `passing` one, such as a count, only in a terminal."""


def reason_of(error: OSError) -> str:
    """Return what an error of the system says to a person, with the file's name where there is one."""
    reason = (error.strerror or str(error)).lower()
    return f"{error.filename}: {reason}" if error.filename else reason


def is_live() -> bool:
    """Whether a person watches standard error."""
    return sys.stderr.isatty() and not os.environ.get("CI")


@contextmanager
def waiting() -> Iterator[Say]:
    """Show what is being done while the block lasts: one moving line, or in a pipe a line for each step."""
    if not is_live():

        def line(text: str, *, passing: bool = False) -> None:
            if not passing:
                print(text, file=sys.stderr, flush=True)

        yield line
        return
    from rich.console import Console  # noqa: PLC0415 -- a tenth of a second, which --help would wait for
    from rich.markup import escape  # noqa: PLC0415

    with Console(stderr=True).status("") as status:

        def move(text: str, *, passing: bool = False) -> None:
            status.update(escape(text))

        yield move


@contextmanager
def counting(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block lasts; nothing in a pipe. Gives a function that takes how many are done."""
    if not is_live():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.update(task, completed=done)
