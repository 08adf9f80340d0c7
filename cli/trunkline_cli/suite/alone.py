"""One `trunkline up` in a folder, on addresses that are free: told before anything of a running one is touched."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from trunkline_cli.suite.processes import PORTS, Suite, SuiteError

_LISTENS = "0A"  # the state in the kernel's table
_MOST_COMMAND = 60


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while the block lasts. Raises SuiteError that names the process that has it.

    The kernel lets go of it when the process ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "up.lock"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            whose = file.read().strip() or "another process"
            raise SuiteError(
                f"already running in {folder.absolute()}: {whose}; Ctrl-C there stops it"
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a word
            file.truncate(0)
            file.write(f"pid {os.getpid()}, since {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}\n")
            file.flush()
        yield


def addresses_are_free(suite: Suite) -> None:
    """Look whether each address can be listened on. Raises SuiteError that lists those that are taken."""
    wanted = {"TRUNKLINE_GATEWAY_HTTP_ADDRESS": suite.http}
    wanted |= {f"TRUNKLINE_{PORTS[name][0]}_GRPC_ADDRESS": address for name, address in suite.grpc.items()}
    wanted |= {
        f"TRUNKLINE_{PORTS[name][0]}_METRICS_ADDRESS": address for name, address in suite.metrics.items()
    }
    if lines := taken(wanted):
        listed = "\n".join(lines)
        raise SuiteError(
            f"addresses in use, perhaps by another `trunkline up`; stop it, or set other addresses:\n{listed}"
        )


def taken(wanted: Mapping[str, str]) -> list[str]:
    """Return a line for each address (setting to host:port) that is in use, with the process that has it."""
    return [
        f"  {setting}={address}{_holder(address)}"
        for setting, address in wanted.items()
        if _is_taken(address)
    ]


def _holder(address: str) -> str:
    """Say which process listens on a port, where the kernel tells (Linux, processes of this user)."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    sockets = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
            sockets |= {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == _LISTENS}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(open_file) in sockets for open_file in (process / "fd").iterdir()):
                command = (process / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
                return f"  (pid {process.name}: {command[-_MOST_COMMAND:]})"
    return ""


def _is_taken(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(where[0], socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(where[4])
    except (OSError, ValueError) as error:
        return (
            getattr(error, "errno", None) == errno.EADDRINUSE
        )  # what else is wrong with it, the service says
    return False
