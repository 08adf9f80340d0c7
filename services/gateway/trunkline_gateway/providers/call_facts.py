"""Collecting facts about a call together with the list of what was stated."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from trunkline.tenant.v1 import call_pb2

from trunkline_gateway.providers.base import Source
from trunkline_gateway.providers.scalars import timestamp


class CallFacts:
    """A call's facts as one event states them. What is None is not stated."""

    def __init__(self, source: Source, provider_call_id: str, account: str = ""):
        """Say which call it is, which is no stated fact; `account` stands in where the source names none."""
        self.call = call_pb2.Call(
            provider=source.provider,
            source=f"tenants/{source.tenant_id}/sources/{source.source_id}",
            provider_account=source.provider_account or account,
            provider_call_id=provider_call_id,
        )
        self._stated: list[str] = []

    @property
    def stated(self) -> tuple[str, ...]:
        """The fields that were stated, in the order they were."""
        return tuple(self._stated)

    def put(self, field: str, value: str | bool | int | list[str] | datetime | Duration | None) -> None:
        """State one field, unless the value is None."""
        if value is None:
            return
        if isinstance(value, datetime):
            value_message: Timestamp | Duration = timestamp(value)
            getattr(self.call, field).CopyFrom(value_message)
        elif isinstance(value, Duration):
            getattr(self.call, field).CopyFrom(value)
        elif isinstance(value, list):
            getattr(self.call, field).extend(value)
        else:
            setattr(self.call, field, value)
        self._stated.append(field)
