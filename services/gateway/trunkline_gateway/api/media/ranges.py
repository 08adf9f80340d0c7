"""Reads the headers that name parts of a body: Range, If-Range, If-None-Match and Content-Range."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(rb"bytes=\s*(\d{0,15})-(\d{0,15})\s*")
_CONTENT_RANGE = re.compile(rb"bytes (?:(\d{1,15})-(\d{1,15})|(\*))/(?:(\d{1,15})|\*)")


class Unsatisfiable(ValueError):
    """No byte of a range is there."""


def asked_range(header: bytes | None, size: int) -> tuple[int, int] | None:
    """Return the first byte of a Range and the one after the last; None for the whole. Raises Unsatisfiable.

    What is no range of bytes, and several ranges at once, are the whole, as HTTP lets a server answer.
    """
    found = _RANGE.fullmatch(header) if header is not None else None
    if found is None or found.groups() == (b"", b""):
        return None
    first, last = found.groups()
    if not first:  # the last so many
        length = int(last)
        if not length or not size:
            raise Unsatisfiable
        return max(0, size - length), size
    start, end = int(first), int(last) + 1 if last else size
    if last and end <= start:
        return None  # not a range at all
    if start >= size:
        raise Unsatisfiable
    return start, min(end, size)


def is_same(if_range: bytes | None, etag: bytes) -> bool:
    """Tell whether a Range counts: its sender has a part of these bytes, or asks for no condition."""
    return if_range is None or if_range.strip() == etag


def is_known(if_none_match: bytes | None, etag: bytes) -> bool:
    """Tell whether the sender has the bytes already."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix(b"W/") for tag in if_none_match[:4096].split(b",")]
    return b"*" in tags or etag in tags


@dataclass(frozen=True, slots=True)
class ContentRange:
    """A Content-Range: the offset of the first byte, how many there are, and of how many (0: not known)."""

    start: int
    length: int
    total: int

    @property
    def asks(self) -> bool:
        """Whether it holds nothing, and asks how far the upload is."""
        return not self.length


def sent_part(header: bytes) -> ContentRange | None:
    """Return what a Content-Range says; None for one that says nothing that can be."""
    found = _CONTENT_RANGE.fullmatch(header.strip())
    if found is None:
        return None
    first, last, star, whole = found.groups()
    total = int(whole) if whole else 0
    if star:
        return ContentRange(0, 0, total)
    start, end = int(first), int(last) + 1
    if end <= start or (whole and end > total):
        return None
    return ContentRange(start, end - start, total)
