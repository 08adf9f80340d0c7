"""One spooled receipt: the columns of `receipts`, where the store stood when it came, and a checksum over all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from trunkline_store.appender import row_columns
from trunkline_store.types import Bytes, from_microseconds, to_microseconds

from trunkline_gateway.schema import receipts

COLUMNS = row_columns(receipts)
metadata = sa.MetaData()
spooled = sa.Table(
    "receipts",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True),
    *(sa.Column(name, receipts.c[name].type, nullable=False) for name in COLUMNS),
    # The store's last receipt before this one was handed to it: if it is there at all, it stands behind that.
    sa.Column("floor", sa.BigInteger, nullable=False),
    sa.Column("checksum", Bytes, nullable=False),
)

# As bytes, whatever they are: damaged text cannot even be read as text.
_SHOWN = ", ".join(f"CAST({name} AS BLOB)" for name in (*COLUMNS, "floor", "checksum"))
SELECT = f"SELECT seq, {_SHOWN} FROM receipts "  # noqa: S608 -- names of ours
# What a row weighs beside its bodies: its other columns and its part of the pages.
_ROW_BYTES = 512
WEIGHT = f"length(body) + length(headers) + length(url) + {_ROW_BYTES}"

_TIMES = {COLUMNS.index(name) for name in COLUMNS if name.endswith("_at")}
_NUMBERS = {COLUMNS.index("verdict")}
_BLOBS = {COLUMNS.index("headers"), COLUMNS.index("body")}
_URL, _HEADERS, _BODY = (COLUMNS.index(name) for name in ("url", "headers", "body"))


class Spooled(NamedTuple):
    """A row of the spool that is as it was written."""

    seq: int
    floor: int
    values: tuple[Any, ...]  # of a row of `receipts`, in the appender's order

    @property
    def receipt_id(self) -> str:
        """The receipt's id."""
        receipt_id: str = self.values[0]
        return receipt_id

    @property
    def weight(self) -> int:
        """Bytes it counts for."""
        return weigh(self.values)


def weigh(values: tuple[Any, ...]) -> int:
    """Return the bytes that a row counts for in the spool, as WEIGHT does."""
    return len(values[_BODY]) + len(values[_HEADERS]) + len(values[_URL]) + _ROW_BYTES


def sealed(values: tuple[Any, ...], floor: int) -> tuple[Any, ...]:
    """Return the row that is spooled for a receipt's values."""
    return (*values, floor, _checksum([*(_raw(value) for value in values), b"%d" % floor]))


def opened(row: Sequence[Any]) -> Spooled | None:
    """Return what one row of SELECT holds, or None when it is not what was written."""
    seq, *raw, checksum = row
    if None in raw or checksum != _checksum(raw):
        return None
    values = tuple(_value(index, item) for index, item in enumerate(raw[:-1]))
    return Spooled(seq, int(raw[-1]), values)


def _checksum(raw: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for item in raw:
        digest.update(len(item).to_bytes(8, "big"))
        digest.update(item)
    return digest.digest()


def _raw(value: Any) -> bytes:
    """Return a value as CAST(.. AS BLOB) gives it back."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")  # which the column's type refuses, and says why
    if isinstance(value, datetime):
        return str(to_microseconds(value)).encode()
    if isinstance(value, int):
        return b"%d" % value
    return bytes(value)


def _value(index: int, raw: bytes) -> Any:
    if index in _BLOBS:
        return raw
    if index in _TIMES:
        return from_microseconds(int(raw))
    return int(raw) if index in _NUMBERS else raw.decode()
