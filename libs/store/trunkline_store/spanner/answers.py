"""What Spanner answers to a statement, as rows of Python values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from typing import Any

from google.cloud.spanner_v1 import PartialResultSet
from google.cloud.spanner_v1.streamed import StreamedResultSet

from trunkline_store.spanner.values import decoder


@dataclass(frozen=True)
class Result:
    """What a statement gave."""

    columns: list[tuple[str, int]]
    """Name and TypeCode of each."""
    rows: list[tuple[Any, ...]]
    changed: int
    """Rows that a DML statement changed, -1 for a query."""
    transaction: bytes
    """The id of the transaction that this statement began, empty if none."""


def parts_of(stream: Iterable[Any]) -> Iterator[Any]:
    """Yield the messages of a stream up to the one that calls itself the last."""
    for part in stream:
        yield part
        if part.last:
            return


def result_of(parts: Sequence[Any]) -> Result:
    """Read an answer from its PartialResultSets, past the wrappers of the library, which cost as much as the call."""
    raw = [PartialResultSet.pb(part) for part in parts]
    if not raw:
        return Result([], [], -1, b"")
    fields = raw[0].metadata.row_type.fields
    decoders = [decoder(field.type_) for field in fields]
    if any(part.chunked_value for part in raw):  # the library puts together what was cut
        values = chain.from_iterable(StreamedResultSet(iter(parts), lazy_decode=True))
    else:
        values = chain.from_iterable(part.values for part in raw)
    decoded = (read(value) for read, value in zip(cycle(decoders), values, strict=False))
    counted = next((part.stats for part in raw if part.HasField("stats")), None)
    return Result(
        columns=[(field.name, int(field.type_.code)) for field in fields],
        rows=list(zip(*[decoded] * len(decoders), strict=True)) if decoders else [],
        changed=counted.row_count_exact
        if counted is not None and counted.HasField("row_count_exact")
        else -1,
        transaction=raw[0].metadata.transaction.id,
    )
