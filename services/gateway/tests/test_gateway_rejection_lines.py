"""The log tells of rejected webhooks: at once, then once a source and minute, however many come."""

from __future__ import annotations

import pytest
import structlog
from gateway_deliveries import TWILIO, delivery, twilio
from gateway_sources import resolved
from trunkline.tenant.v1 import source_pb2
from trunkline_gateway.hooks.rejection_log import MINUTE, RejectionLog
from trunkline_gateway.hooks.sources import source_of
from trunkline_gateway.providers.base import Rejected
from trunkline_gateway.providers.registry import adapter_for


class Clock:
    def __init__(self):
        self.due = []

    def later(self, seconds, call):
        assert seconds == MINUTE
        self.due.append(call)

    def minute(self):
        due, self.due = self.due, []
        for call in due:
            call()


@pytest.fixture
def told():
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_a_flood_is_one_line_at_once_and_one_a_minute_with_its_count(told):
    clock = Clock()
    lines = RejectionLog(clock.later)
    source = source_of(resolved())
    for number in range(1000):
        lines.note(source, "post_call", delivery(b"", f"https://h/hooks/s-1/post_call?{number}"), "wrong")
    assert [(line["count"], line["url"][-2:]) for line in told] == [(1, "?0")]
    clock.minute()
    assert told[1:] == [
        {
            "event": "webhooks_rejected", "log_level": "warning", "count": 999, "tenant": "acme", "source": "s-1",
            "event_type": "post_call", "module": "trunkline_gateway.hooks.rejection_log", "reason": "wrong", "url": "https://h/hooks/s-1/post_call?999",
        }
    ]  # fmt: skip
    clock.minute()
    assert (len(told), clock.due) == (2, [])
    lines.note(source, "post_call", delivery(b"", "https://h/"), "again")
    assert told[2]["reason"] == "again"


def test_a_flood_with_one_reason_hides_no_line_with_another(told):
    lines = RejectionLog(Clock().later)
    source = source_of(resolved())
    for reason in ["wrong"] * 297 + ["missing"] + ["wrong"] * 100:
        lines.note(source, "post_call", delivery(b""), reason)
    assert [line["reason"] for line in told] == ["wrong", "missing"]


def test_what_twilio_is_told_names_the_url_that_was_used():
    message = source_pb2.Source(name="tenants/acme/sources/s-1", provider=TWILIO)
    secrets = [source_pb2.SourceSecret(value="token")]
    source = source_of(source_pb2.ResolvedSource(source=message, secrets=secrets, accepting=True, revision=1))
    signed = twilio({"CallSid": "CA1"}, "token", "https://real.example.com/hooks/s-1/call_status")
    headers = {name.replace("-", "_"): value for name, value in signed.headers.items()}
    request = delivery(signed.body, "https://hooks.example.com/hooks/s-1/call_status", **headers)
    with pytest.raises(Rejected, match=r"the URL below https://hooks\.example\.com"):
        adapter_for(TWILIO).verify(source, request)
