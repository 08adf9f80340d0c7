"""What `python -m trunkline_<service>` does: serve, or with --help list the settings, or with --check verify them."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Awaitable, Callable, Sequence
from importlib import metadata
from typing import NoReturn, TypeVar

from trunkline_runtime import config
from trunkline_runtime.observe import logs
from trunkline_runtime.rpc import server

C = TypeVar("C", bound=config.CommonConfig)
_WIDTH = 110


def main(
    service: str,
    cls: type[C],
    serve: Callable[[C], Awaitable[None]],
    *,
    program: str = "",
    arguments: Sequence[str] | None = None,
    load: Callable[[bool], C] | None = None,
) -> None:
    """Run a service's process to its end; exits with 2 for wrong settings or arguments.

    `load(reach)` builds the config, by default from the environment; with `reach` nothing is made, and other
    services are connected to.
    """
    program = program or f"python -m trunkline_{service}"
    given = list(sys.argv[1:] if arguments is None else arguments)

    def read(reach: bool) -> C:
        return load(reach) if load is not None else config.load(cls, service, reach=reach)

    if given in (["--help"], ["-h"]):
        _show(usage(service, cls, program))
    elif given == ["--version"]:
        print(f"trunkline {metadata.version('trunkline-runtime')}")  # noqa: T201 -- asked for
    elif given == ["--check"]:
        _check(lambda: read(True))
    elif given:
        refuse(program)
    else:

        async def run() -> None:
            told = read(False)
            logs.configure(service, told.log_format, told.log_level)
            await serve(told)

        server.run(run)


def _show(text: str) -> None:
    try:
        print(text, end="", flush=True)  # noqa: T201 -- asked for
    except BrokenPipeError:  # `--help | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit fails again
        raise SystemExit(1) from None


def refuse(program: str) -> NoReturn:
    """End with a usage line and the code of wrong arguments and settings, 2."""
    print(_line(program), file=sys.stderr)  # noqa: T201 -- nothing logs yet
    raise SystemExit(2)


def _line(program: str) -> str:
    return f"usage: {program} [--help | --check | --version]"


def usage(service: str, cls: type[config.CommonConfig], program: str) -> str:
    """Return all settings with default, what is allowed, and meaning, as text for a terminal."""
    lines = [
        _line(program),
        "",
        "  --check   check the settings, and that the other services can be reached; serve nothing, and exit",
        "",
        "Settings are environment variables. To read a secret from a file, set its name followed by _FILE to the path.",
        "",
    ]
    for name, kind, default, allowed, doc in config.rows(cls, service):
        begin = "required" if default == "required" else f"default {default or 'empty'}"
        lines.append(f"{name}  ({'; '.join(filter(None, (kind, begin, allowed)))})")
        lines += textwrap.wrap(doc, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    lines += [f"{name}\n    {doc}" for name, doc in config.SUITE_WIDE.items()]
    return "\n".join(lines) + "\n"


def _check(read: Callable[[], object]) -> None:
    try:
        read()
    except config.ConfigError as error:
        server.tell(error)
    print("the settings are correct")  # noqa: T201 -- asked for
