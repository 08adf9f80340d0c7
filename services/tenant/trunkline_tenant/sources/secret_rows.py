"""The sealed secrets of sources: those that verify, newest first, and the one recordings are fetched with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from trunkline.tenant.v1 import source_pb2
from trunkline_runtime.api.resources import new_id
from trunkline_runtime.api.times import timestamp
from trunkline_store import Database
from trunkline_store.records.expiry import is_over

from trunkline_tenant.crypto import SecretBox
from trunkline_tenant.schema import source_secrets as table

SIGNING = "signing"
FETCHING = "fetching"
NAMED = "named"
# Rotating more often than secrets expire keeps this many.
MOST_SIGNING = 8
_A_TURN = 200


def signing(rows: Sequence[Mapping[Any, Any]], now: datetime) -> list[Mapping[Any, Any]]:
    """Return the rows of the source's own secrets that verify now, the newest first."""
    return [row for row in rows if row["purpose"] == SIGNING and not is_over(row["expire_time"], now)]


def verifying(rows: Sequence[Mapping[Any, Any]], now: datetime) -> list[Mapping[Any, Any]]:
    """Return the rows of all secrets that verify now: the source's own, then those that have names."""
    named = [row for row in rows if row["purpose"] == NAMED]
    return [*signing(rows, now), *sorted(named, key=lambda row: str(row["label"]))]


def opened(box: SecretBox, row: Mapping[Any, Any]) -> str:
    """Return the secret in a row. Raises UnreadableSecret."""
    return box.open(bytes(row["sealed"]), _place(row))


@dataclass(frozen=True, slots=True)
class SourceSecrets:
    """The secrets of one source, in a transaction."""

    conn: Connection
    box: SecretBox
    tenant: str
    source: str

    def rows(self) -> Sequence[Mapping[Any, Any]]:
        """Return all rows, the newest first."""
        return (
            self.conn.execute(sa.select(table).where(*self._mine()).order_by(table.c.generation.desc()))
            .mappings()
            .all()
        )

    def put(self, purpose: str, secret: str, generation: int, label: str | None = None) -> None:
        """Add a secret; `label` is its name when it has one."""
        row = {"tenant_id": self.tenant, "source_id": self.source, "secret_id": new_id()}
        sealed = self.box.seal(secret, _place(row))
        self.conn.execute(
            sa.insert(table).values(
                **row,
                purpose=purpose,
                sealed=sealed.data,
                key_print=sealed.key_print,
                label=label,
                generation=generation,
            )
        )

    def set_fetching(self, secret: str) -> None:
        """Replace the credential that recordings are fetched with; an empty one removes it."""
        self.conn.execute(sa.delete(table).where(*self._mine(), table.c.purpose == FETCHING))
        if secret:
            self.put(FETCHING, secret, 0)

    def set_named(self, wanted: Mapping[str, str]) -> bool:
        """Make the secrets that have names these; one without a value keeps its own. False when nothing changes."""
        there = {row["label"]: row for row in self.rows() if row["purpose"] == NAMED}
        keep = {
            label
            for label, secret in wanted.items()
            if label in there and secret in ("", opened(self.box, there[label]))
        }
        for label, row in there.items():
            if label not in keep:
                self.conn.execute(sa.delete(table).where(*_key(row)))
        for label, secret in wanted.items():
            if label not in keep:
                self.put(NAMED, secret, 0, label)
        return there.keys() != keep or wanted.keys() != keep

    def named(self) -> set[str]:
        """Return the names of the secrets that have one."""
        return {row["label"] for row in self.rows() if row["purpose"] == NAMED}

    def rotate(self, secret: str, now: datetime, until: datetime) -> bool:
        """Put a secret first and let the others verify `until` then; False when it is the first already."""
        rows = self.rows()
        live = signing(rows, now)
        if live and opened(self.box, live[0]) == secret:
            return False
        others = [row for row in live if opened(self.box, row) != secret]
        kept = others[: MOST_SIGNING - 1] if until > now else []
        for row in rows:
            if row["purpose"] == SIGNING and row not in kept:
                self.conn.execute(sa.delete(table).where(*_key(row)))
        for row in kept:
            if row["expire_time"] is None or row["expire_time"] > until:
                self.conn.execute(sa.update(table).where(*_key(row)).values(expire_time=until))
        self.put(SIGNING, secret, 1 + max((row["generation"] for row in rows), default=0))
        return True

    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        return table.c.tenant_id == self.tenant, table.c.source_id == self.source


def message(box: SecretBox, row: Mapping[Any, Any]) -> source_pb2.SourceSecret:
    """Return a secret as the gateway gets it."""
    secret = source_pb2.SourceSecret(value=opened(box, row), name=row["label"] or "")
    if row["expire_time"] is not None:
        secret.expire_time.CopyFrom(timestamp(row["expire_time"]))
    return secret


async def reseal(db: Database, box: SecretBox) -> int:
    """Seal again, under the newest key, all that another key sealed; how many there were.

    Afterwards the older keys may go from configuration. Raises UnreadableSecret when none opens one.
    """
    total = 0
    while done := await db.write(lambda conn: _reseal_some(conn, box)):
        total += done
    return total


def try_keys(conn: Connection, box: SecretBox) -> None:
    """Open all that `reseal` would. Raises UnreadableSecret when no key opens one."""
    for row in conn.execute(_under_others(box)).mappings():
        opened(box, row)


def _under_others(box: SecretBox) -> sa.Select[Any]:
    return sa.select(table).where(table.c.key_print != box.newest)


def _reseal_some(conn: Connection, box: SecretBox) -> int:
    rows = conn.execute(_under_others(box).limit(_A_TURN)).mappings().all()
    for row in rows:
        sealed = box.seal(opened(box, row), _place(row))
        conn.execute(
            sa.update(table).where(*_key(row)).values(sealed=sealed.data, key_print=sealed.key_print)
        )
    return len(rows)


def _place(row: Mapping[Any, Any]) -> str:
    return f"{row['tenant_id']}/{row['source_id']}/{row['secret_id']}"


def _key(row: Mapping[Any, Any]) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        table.c.tenant_id == row["tenant_id"],
        table.c.source_id == row["source_id"],
        table.c.secret_id == row["secret_id"],
    )
