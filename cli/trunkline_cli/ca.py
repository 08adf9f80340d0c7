"""`trunkline ca`: a certificate authority for development, and a certificate for each holder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trunkline_runtime.identity.authority import Authority
from trunkline_runtime.identity.peers import PEERS, host_of

from trunkline_cli.screen import Failure, Misuse, reason_of


def ca(folder: Path, names: Sequence[str], days: float, *, renew: bool) -> None:
    """Make what is missing or near its end, with `renew` all of it, and say what was made. Raises Failure, Misuse."""
    if unknown := [name for name in names if name not in PEERS]:
        raise Misuse(f"there is no {', '.join(unknown)}; there are {', '.join(PEERS)}")
    try:
        made = Authority(folder).renew(names or tuple(PEERS), days, force=renew)
    except OSError as error:
        raise Failure(reason_of(error)) from None
    except ValueError as error:
        raise Failure(f"{folder}: ca.crt and ca.key are no authority: {error}") from None
    for name in made:
        print(f"{folder / name}  {host_of(name)}")
    if not made:
        print("every certificate is good for now; --renew makes new ones")
