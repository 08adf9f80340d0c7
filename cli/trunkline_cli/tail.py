"""Follows a tenant's events or calls as they change."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from trunkline_cli.api import Api
from trunkline_cli.screen import Misuse

KINDS = ("events", "calls")
# Replicas commit in parallel: a change may appear after a later one.
OVERLAP_SECONDS = 10.0
LOOK_SECONDS = 1.0
_PAGE = 200


class Tail:
    """The changes of one list since a cursor, each once. The cursor is the newest `update_time` that was seen."""

    def __init__(self, api: Api, tenant: str, kind: str, condition: str, cursor: str = "") -> None:
        """Begin at a cursor, or at the present. Raises Misuse for a cursor that is no time."""
        self._api = api
        self._path = f"tenants/{tenant}/{kind}"
        self._kind = kind
        self._condition = condition
        self._seen: dict[tuple[str, str], None] = {}
        self.cursor = cursor
        if cursor:
            _time(cursor)

    def latest(self, count: int) -> list[dict[str, Any]]:
        """Return the newest ones, the oldest first, and continue behind them."""
        page = self._api.get(
            self._path, filter=self._condition, orderBy="update_time desc", pageSize=max(1, count)
        )
        found = list(reversed(page.get(self._kind, [])))
        fresh = list(self._fresh(found))
        return fresh[-count:] if count else []

    def changes(self) -> Iterator[dict[str, Any]]:
        """Return what changed since the last look, and move the cursor."""
        conditions = [self._condition] if self._condition else []
        if self.cursor:
            since = _time(self.cursor) - timedelta(seconds=OVERLAP_SECONDS)
            conditions.append(f'update_time > "{since.isoformat()}"')
        found = self._api.pages(
            self._path, self._kind, filter=" AND ".join(conditions), orderBy="update_time", pageSize=_PAGE
        )
        yield from self._fresh(found)

    def _fresh(self, found: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for item in found:
            mark = (item["name"], item["updateTime"])
            if mark in self._seen:
                continue
            self._seen[mark] = None
            if not self.cursor or _time(item["updateTime"]) > _time(self.cursor):
                self.cursor = item["updateTime"]
            yield item
        if self.cursor:
            oldest = _time(self.cursor) - timedelta(seconds=2 * OVERLAP_SECONDS)
            self._seen = {mark: None for mark in self._seen if _time(mark[1]) > oldest}


def follow(
    tail: Tail,
    lines: int,
    forever: bool,
    show: Callable[[dict[str, Any]], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the newest `lines`, or all since the tail's cursor; then what changes. Raises Failure."""
    for item in tail.changes() if tail.cursor else tail.latest(lines):
        show(item)
    while forever:
        sleep(LOOK_SECONDS)
        for item in tail.changes():
            show(item)


def line(kind: str, item: dict[str, Any]) -> str:
    """Return one line about an event or a call."""
    at = _time(item["updateTime"]).astimezone().strftime("%H:%M:%S")
    state = re.sub(r"^[A-Z_]*STATE_", "", str(item.get("state", ""))).lower()
    if kind == "events":
        told = [item.get("eventType", ""), item.get("stage", ""), item.get("lastError", "")]
    else:
        names = ("intent", "leadLevel")
        told = [re.sub(r"^(INTENT|LEAD_LEVEL)_", "", str(item.get(name, ""))).lower() for name in names]
        told.append(item.get("openingWords", ""))
    return f"{at}  {state:13} {item['name'].split('/', 2)[2]}  {'  '.join(t for t in told if t)}".rstrip()


def as_json(item: dict[str, Any]) -> str:
    """Return a resource as one line of JSON."""
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"))


def _time(text: str) -> datetime:
    # Python 3.11 reads no more than six digits of a second.
    try:
        at = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Misuse(f"{text!r} is not a time such as 2026-11-20T10:00:00Z")
    return at
