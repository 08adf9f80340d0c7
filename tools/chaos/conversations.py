"""What providers tell of one conversation: the webhooks, and what must be known of it in the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from trunkline_cli.suite.seed import SeededSource, SeededTenant
from trunkline_cli.suite.webhooks import Webhook, callrail, callrail_call

_CALLERS = 25  # a tenant's: few, so that calls of one caller are recorded side by side


@dataclass
class Message:
    """One webhook, and the receipts of every time that it was acknowledged."""

    webhook: Webhook
    malformed: bool = False
    receipts: list[str] = field(default_factory=list)


@dataclass
class Conversation:
    """Messages about one call or text; `provider_call_id` is empty for a body that says nothing readable."""

    tenant: str
    messages: list[Message]
    provider_call_id: str = ""
    number: str = ""
    note: str = ""
    recordings: int = 0  # how many different ones the messages tell of


class Conversations:
    """Makes conversations for ever, the same ones for the same seed."""

    def __init__(
        self,
        tenants: list[SeededTenant],
        rng: random.Random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ):
        """Every conversation belongs to one of the tenants, by its first CallRail source."""
        self._tenants = tenants
        self._rng = rng
        self._now = now
        self._next = 300_000_000
        self.made: list[Conversation] = []

    def make(self) -> Conversation:
        """Make the next one."""
        rng = self._rng
        tenant = rng.choice(self._tenants)
        source = tenant.source("callrail")
        self._next += 1
        kind = rng.random()
        if kind < 0.04:
            webhook = callrail(source, "post_call", {"id": {"not": "an id", "n": self._next}})
            made = Conversation(tenant.name, [Message(webhook, malformed=True)])
        else:
            number = f"+1404555{rng.randrange(_CALLERS):04}"
            made = Conversation(tenant.name, [], number=number)
            messages = self._text(source, made) if kind < 0.2 else self._call(source, made)
            made.messages = [Message(webhook) for webhook in messages]
            if rng.random() < 0.25:
                rng.shuffle(made.messages)
        self.made.append(made)
        return made

    def _text(self, source: SeededSource, made: Conversation) -> Iterator[Webhook]:
        made.provider_call_id = f"SMT{self._next}"
        payload = {
            "id": self._next,
            "resource_id": made.provider_call_id,
            "source_number": made.number,
            "destination_number": "+14045550199",
            "content": f"Could you come on Tuesday? Number {self._next}",
            "timestamp": self._now().isoformat(timespec="milliseconds"),
        }
        yield callrail(source, "text_message_received", payload)

    def _call(self, source: SeededSource, made: Conversation) -> Iterator[Webhook]:
        rng, call_id = self._rng, str(self._next)
        made.provider_call_id = f"CAL{call_id}"
        recorded = rng.random() < 0.6
        made.recordings = int(recorded)
        began = self._now()

        def say(event_type: str, recorded: bool, after: int = 0, **fields: Any) -> Webhook:
            at = (began + timedelta(seconds=after)).isoformat(timespec="milliseconds")
            told = callrail_call(source, call_id, recorded=recorded, number=made.number, **fields)
            told |= {"start_time": began.isoformat(timespec="milliseconds"), "timestamp": at}
            return callrail(source, event_type, {k: v for k, v in told.items() if v is not None})

        if rng.random() < 0.6:
            # A third of them by the numeric id alone: what it names is found to be the same call later.
            without: dict[str, Any] = {"resource_id": None} if rng.random() < 0.3 else {}
            yield say("pre_call", False, **without)
        yield say("post_call", recorded)
        for change in range(1, 1 + rng.choice((0, 0, 1, 2))):
            made.note = f"changed {change} times"
            longer = recorded and rng.random() < 0.3
            fields: dict[str, Any] = {"note": made.note, "changes": ["recording" if longer else "note"]}
            if longer:
                made.recordings += 1
                fields["recording_duration"] = 1 + change / 10
            yield say("call_modified", recorded, change, **fields)
