"""Tells the calls of jobs that a claim buried: their workers died with them, and so did whoever would have said it.

What waits to be told is in memory: a gateway that is killed within those seconds leaves a call in its last state. The
event says that it is a dead letter all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from trunkline.tenant.v1 import call_pb2, call_service_pb2
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe.logs import get_logger

from trunkline_gateway.events.progress import TellCall, told_state

log = get_logger(__name__)

TELL_SECONDS = 2.0
_MOST = 10_000


def call_of(checkpoint: Mapping[str, Any]) -> str:
    """Return the call that a job is about, as the last stage that named one knows it; empty before."""
    return checkpoint.get("record") or checkpoint.get("normalise") or ""


def buried_state(
    tenant: str, event_id: str, checkpoint: Mapping[str, Any], lease_token: int, reason: str
) -> call_service_pb2.RecordCallStateRequest | None:
    """Return what a buried job's call is told, None when there is no call yet."""
    call = call_of(checkpoint)
    if not call:
        return None
    event = f"tenants/{tenant}/events/{event_id}"
    return told_state(call, event, call_pb2.CALL_STATE_FAILED, lease_token, reason)


class Burials:
    """What is to be told; `tell` is to be called every TELL_SECONDS."""

    def __init__(self, tell: TellCall):
        """`tell` tells the tenant service."""
        self._tell = tell
        self._waiting: deque[call_service_pb2.RecordCallStateRequest] = deque(maxlen=_MOST)

    def add(self, requests: Iterable[call_service_pb2.RecordCallStateRequest]) -> None:
        """Have calls told soon; of more than 10,000 that wait the oldest are dropped."""
        self._waiting.extend(requests)

    async def tell(self) -> None:
        """Tell what waits. While nobody can be told it goes on waiting."""
        while self._waiting:
            request = self._waiting[0]
            try:
                await self._tell(request)
            except TrunklineError as error:
                if error.transient:
                    return
                log.warning("call_not_told", call=request.name, of=request.event, reason=error.reason)
            if self._waiting and self._waiting[0] is request:
                self._waiting.popleft()
