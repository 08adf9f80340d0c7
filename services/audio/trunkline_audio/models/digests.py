"""Sizes and SHA-256 digests of files, and the SHA256SUMS that lists them beside a model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from trunkline_audio.models.errors import ModelDamaged

MANIFEST = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\0]+)")


def sha256(path: Path) -> str:
    """The SHA-256 of a file as hex; the file is read in pieces. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, size: int | None, digest: str | None) -> None:
    """Raise ModelDamaged unless the file is there with this size and SHA-256, where they are known."""
    try:
        found = path.stat().st_size
        if size is not None and found != size:
            raise ModelDamaged(f"{path} has {found} bytes, not {size}")
        if digest is not None and sha256(path) != digest:
            raise ModelDamaged(f"{path} is not the file it should be (its SHA-256 is another)")
    except FileNotFoundError:
        raise ModelDamaged(f"{path} is missing") from None


def write_manifest(folder: Path, names: Iterable[str], origin: str) -> None:
    """Write the digests of these files as they are now; `origin` is a comment. Raises OSError.

    `sha256sum -c SHA256SUMS` reads what is written.
    """
    lines = [f"# {origin}", *(f"{sha256(folder / name)}  {name}" for name in sorted(names))]
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_manifest(folder: Path) -> None:
    """Raise ModelDamaged unless all that the folder's SHA256SUMS lists is there as listed.

    A folder without one passes.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ModelDamaged(f"{path} lists no file")
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ModelDamaged(f"{path} has a line that is no digest and file name")
        check(folder / match[2], None, match[1])
