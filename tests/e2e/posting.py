"""Posts webhooks over kept-alive connections for as long as asked, and tells what became of each."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from trunkline_cli.suite import web, webhooks
from trunkline_cli.suite.seed import SeededSource
from trunkline_cli.suite.webhooks import Webhook

from tests.e2e.conftest import World


@dataclass
class Told:
    """What senders were told."""

    receipts: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    turned_away: int = 0
    enough: threading.Event = field(default_factory=threading.Event)
    """Set, nobody posts any more."""

    def take(self, answer: httpx.Response) -> None:
        """Note one answer."""
        if answer.status_code == 202:
            self.receipts.append(answer.json()["receiptId"])
            self.seconds.append(answer.elapsed.total_seconds())
        else:
            self.refused.append(answer.status_code)


def small_call(world: World, source: SeededSource, note: str = "") -> Webhook:
    """A webhook of a call of its own, without a recording."""
    payload = webhooks.callrail_call(source, world.call_id(), recorded=False, note=note)
    return webhooks.callrail(source, "post_call", payload)


@contextmanager
def posting(
    world: World, senders: int, every_seconds: float = 0.1, keep_alive: bool = True
) -> Iterator[Told]:
    """Post from several threads at once until the block ends, or nobody listens any more."""
    told = Told()
    enough = told.enough
    source = world.tenants[0].source("callrail")

    def send() -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keep_alive else 0)
        with web.client(timeout=10, limits=limits) as client:
            while not enough.is_set():
                hook = small_call(world, source)
                try:
                    told.take(client.post(hook.url, content=hook.body, headers=hook.headers))
                except httpx.ConnectError:
                    told.turned_away += 1
                    return
                except httpx.HTTPError as error:
                    told.errors.append(repr(error))
                enough.wait(every_seconds)

    threads = [threading.Thread(target=send) for _ in range(senders)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        enough.set()
        for thread in threads:
            thread.join()


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Look into a store beside its owner."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as conn:
        yield conn


def assert_each_is_one_event(world: World, told: Told, store: Path | None = None) -> None:
    """Wait until everything acknowledged is admitted; each receipt must be there once and be one event."""
    path = store or world.suite.folder / "gateway.db"
    wanted = set(told.receipts)
    assert len(wanted) == len(told.receipts)

    def admitted() -> list[tuple[str, str]] | None:
        with reading(path) as conn:
            rows = conn.execute(
                "SELECT r.receipt_id, l.event_id FROM receipts r JOIN event_receipts l ON l.seq = r.seq"
            ).fetchall()
        mine = [row for row in rows if row[0] in wanted]
        return mine if len({receipt for receipt, _ in mine}) == len(wanted) else None

    mine = world.wait(admitted, f"{len(wanted)} receipts to be admitted", 20)
    time.sleep(0.3)  # one drained twice would come now
    mine = admitted()
    assert mine is not None
    assert len(mine) == len(wanted), "a receipt is in the store twice"
    assert len({event for _, event in mine}) == len(wanted), "each was an event of its own"
    with reading(path) as conn:
        rows = [row[0] for row in conn.execute("SELECT receipt_id FROM receipts")]
    assert len([row for row in rows if row in wanted]) == len(wanted)
