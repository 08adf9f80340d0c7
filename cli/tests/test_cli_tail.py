"""A tail shows each change once, whatever order replicas commit in, and continues behind its cursor."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline_cli.screen import Misuse
from trunkline_cli.tail import Tail, follow, line


class Events:
    """A list as the API gives it."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []

    def put(self, name: str, second: int) -> None:
        at = f"2026-11-20T10:00:{second:02}.123456789Z"
        self.items[name] = {"name": f"tenants/acme/events/{name}", "updateTime": at}

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        self.asked.append(params)
        found = sorted(self.items.values(), key=lambda item: item["updateTime"], reverse=True)
        return {"events": found[: params["pageSize"]]}

    def pages(self, path: str, field: str, **params: Any) -> list[dict[str, Any]]:
        self.asked.append(params)
        return sorted(self.items.values(), key=lambda item: item["updateTime"])


def names(items: Any) -> list[str]:
    return [item["name"].rpartition("/")[2] for item in items]


def test_the_newest_first_then_each_change_once_also_a_late_commit():
    events = Events()
    for number in range(5):
        events.put(f"e{number}", number)
    tail = Tail(events, "acme", "events", "state = done")  # type: ignore[arg-type]
    assert names(tail.latest(2)) == ["e3", "e4"]
    events.items = {name: events.items[name] for name in ("e3", "e4")}
    events.put("late", 2)
    events.put("e3", 9)
    assert names(tail.changes()) == ["late", "e3"]
    assert names(tail.changes()) == []
    assert tail.cursor == "2026-11-20T10:00:09.123456789Z"
    assert events.asked[-1]["filter"].startswith('state = done AND update_time > "2026-11-20T09:59:59.123456')


def test_it_continues_at_a_cursor_and_refuses_what_is_no_time():
    events = Events()
    events.put("e1", 1)
    shown: list[dict[str, Any]] = []
    tail = Tail(events, "acme", "events", "", "2026-11-20T10:00:00Z")  # type: ignore[arg-type]
    follow(tail, 10, False, shown.append)
    assert names(shown) == ["e1"]
    for cursor in ("yesterday", "2026-11-20T10:00:00"):
        with pytest.raises(Misuse, match="is not a time"):
            Tail(events, "acme", "events", "", cursor)  # type: ignore[arg-type]


def test_a_line_tells_state_name_and_what_went_wrong():
    event = {"name": "tenants/acme/events/e1", "updateTime": "2026-11-20T10:00:00Z", "eventType": "post_call"}
    told = line("events", event | {"state": "EVENT_STATE_DEAD_LETTER", "stage": "fetch", "lastError": "gone"})
    assert told[8:].split() == ["dead_letter", "events/e1", "post_call", "fetch", "gone"]
    call = {"name": "tenants/acme/calls/c1", "updateTime": "2026-11-20T10:00:00Z", "state": "CALL_STATE_DONE"}
    told = line("calls", call | {"intent": "INTENT_BILLING", "leadLevel": "LEAD_LEVEL_LOW"})
    assert told[8:].split() == ["done", "calls/c1", "billing", "low"]
