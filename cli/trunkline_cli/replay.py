"""Replays the events that match a filter: counted first, confirmed, and followed to the end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from trunkline_cli.api import Api
from trunkline_cli.screen import Failure, counting

_LOOK_SECONDS = 0.5
_SHOWN = 5


def replay(
    api: Api,
    tenant: str,
    *,
    wanted: dict[str, Any],
    dry_run: bool,
    confirm: Callable[[int], bool],
    wait: bool,
    say: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Replay what `wanted` (ReplayEventsRequest, as JSON) matches; False if `confirm` refuses the count.

    The replay goes on in the gateway, whatever becomes of the command. Raises Failure.
    """
    path = f"tenants/{tenant}/events:replay"
    counted = api.post(path, {**wanted, "dryRun": True})
    count = int(counted.get("eventCount", 0))
    say(f"{count} {'event matches' if count == 1 else 'events match'}")
    for name in counted.get("sample", [])[:_SHOWN]:
        say(f"  {name}")
    if count > _SHOWN:
        say(f"  and {count - _SHOWN} more")
    if dry_run or not count:
        return True
    if not confirm(count):
        return False
    begun = api.post(path, {**wanted, "requestId": uuid.uuid4().hex})
    say(f"started {begun['name']}")
    if wait:
        ended = _to_its_end(api, begun, sleep)
        say(f"replayed {ended.get('replayedCount', 0)} of {ended.get('eventCount', 0)}")
        if "error" in ended:
            raise Failure(f"the replay failed: {ended['error']}")
    return True


def _to_its_end(api: Api, begun: dict[str, Any], sleep: Callable[[float], None]) -> dict[str, Any]:
    seen = begun
    with counting("replaying", int(begun.get("eventCount", 0))) as done:
        while seen["state"] == "REPLAY_STATE_RUNNING":
            sleep(_LOOK_SECONDS)
            seen = api.get(begun["name"])
            done(int(seen.get("replayedCount", 0)))
    return seen
