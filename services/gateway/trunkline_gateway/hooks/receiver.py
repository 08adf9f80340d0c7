"""Receive: POST /hooks/{source_id}/{event_type}, from the raw request to a committed receipt and its 202.

The hot path. Nothing is parsed, nothing unique is checked and no job is made here: that is admission's work
(intake/admission.py). Read `Receiver._take` top-down; it is the first steps of docs/architecture.md's way of a webhook.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Protocol, Self

from trunkline.common.v1 import provider_pb2
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe import tracing
from trunkline_runtime.observe.logs import get_logger
from trunkline_runtime.observe.tallies import tally, tally_of_seconds
from trunkline_store.errors import StoreBusy, StoreError

from trunkline_gateway import ids, traces
from trunkline_gateway.edge.answers import (
    WEBHOOK,
    Receive,
    Scope,
    Send,
    accepted_in_messages,
    accepted_whole,
    refused,
)
from trunkline_gateway.edge.one_read import HOOK_PATH, WebhookRequest
from trunkline_gateway.hooks.aside import Aside, Crowded
from trunkline_gateway.hooks.encodings import HEADER as CONTENT_ENCODING
from trunkline_gateway.hooks.encodings import OpenedTooLarge, UnknownEncoding, is_encoded, verified_as_written
from trunkline_gateway.hooks.headers import kept_of_anybody, pack, pack_some
from trunkline_gateway.hooks.limits import GRACE, Limits
from trunkline_gateway.hooks.rejection_log import RejectionLog
from trunkline_gateway.hooks.settings import HookSettings
from trunkline_gateway.hooks.sources import SourceMap
from trunkline_gateway.hooks.traffic import Traffic
from trunkline_gateway.hooks.unverified import weight_of
from trunkline_gateway.json_bounds import is_long
from trunkline_gateway.providers.base import Delivery, Malformed, Rejected, Source, TooLarge
from trunkline_gateway.providers.bodies import FORM, is_heavy_form
from trunkline_gateway.providers.registry import Adapter, adapter_for
from trunkline_gateway.receipts import UNVERIFIED, VERIFIED, NewReceipt

log = get_logger(__name__)

_PATH = re.compile(HOOK_PATH, re.ASCII)

# Room is made by days that pass, by an operator or by another plan.
_QUOTA_RETRY_SECONDS = 3_600

# A signed URL longer than that is not hashed on the event loop, where a hint may take a dozen forms of it.
_LIGHT_TARGET = 2_048

# How long, on average, the answer is kept back of a webhook above its source's ceiling.
_HELD_SECONDS = 1.0
_GOLDEN = 0.618

# A source that has used so much of what it may send at once is stored in lots, one each so many seconds: a commit and
# an admission for each webhook of a flood would be in the way of everybody else's. Its senders wait half of it.
_NEAR_CEILING = 0.5
_LOT_SECONDS = 0.1

_UNKNOWN = "unknown"
_INTERNAL = "internal"
_UNVERIFIED = "unverified"
_CROWDED = "verification_busy"
_OUR_FAULTS = ("busy", "store_unavailable", "source_unknown", _INTERNAL)

HOOKS = "hooks"
"""The edge at which webhooks' traces begin."""

RECEIPTS = tally("trunkline_receipts_total", "Webhooks by how they were answered.", ["provider", "answer"])
SECONDS = tally_of_seconds(
    "trunkline_receive_seconds",
    "From the first byte of a webhook to its 202, without the time that its sender took for the body.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)


class ClientGone(Exception):
    """The sender hung up before its body was whole: there is nobody to answer and nothing to keep."""


class Refusal(Exception):
    """A webhook that is not taken: how it is answered, and whose it was when that is known."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        source: Source | None = None,
        *,
        retry_after: float | None = None,
        allow: str | None = None,
    ):
        """`retry_after` in seconds; `allow` names the method that is allowed."""
        super().__init__(message)
        self.status, self.reason, self.message, self.source = status, reason, message, source
        self.retry_after, self.allow = retry_after, allow


class Inbox(Protocol):
    """Where receipts are committed: resolves when the row is on disk."""

    def append(self, row: NewReceipt, size: int) -> Awaitable[None]:
        """Commit a receipt, `size` bytes heavy. Raises StoreBusy when full."""
        ...


class RejectionStore(Protocol):
    """Where requests with a wrong signature are kept, bounded, off the hot path."""

    def keep(self, source: Source, event_type: str, delivery: Delivery, reason: str) -> None:
        """Keep one for inspection; may drop it when too many come at once."""
        ...


class Receiver:
    """The ASGI callable of /hooks."""

    def __init__(
        self,
        sources: SourceMap,
        inbox: Inbox,
        rejected: RejectionStore,
        limits: Limits,
        *,
        public_url: str,
        max_body_bytes: int,
        admit_soon: Callable[[], None],
        traffic: Traffic | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ):
        """Take every dependency; `public_url` is what providers post to, without a slash at its end."""
        self._sources = sources
        self._inbox = inbox
        self._rejected = rejected
        self._lines = RejectionLog()
        self._aside = Aside()
        self._limits = limits
        self._traffic = traffic or Traffic()
        self._unverified = limits.unverified
        self._public_url = public_url.rstrip("/")
        self._max_body = max_body_bytes
        self._admit_soon = admit_soon
        self._now = now
        self._sleep = sleep
        self._spread = 0.0
        providers = {value: _provider_of(value) for value in provider_pb2.Provider.values()}
        self._accepted = {value: RECEIPTS.labels(name, "accepted") for value, name in providers.items()}
        # What appears with its first count has no rate: the first outage would be none.
        for name in (*providers.values(), _UNKNOWN):
            for answer in (*_OUR_FAULTS, _UNVERIFIED if name == _UNKNOWN else _CROWDED):
                RECEIPTS.labels(name, answer)

    @classmethod
    def of(
        cls,
        settings: HookSettings,
        sources: SourceMap,
        inbox: Inbox,
        rejected: RejectionStore,
        limits: Limits,
        admit_soon: Callable[[], None],
        *,
        traffic: Traffic | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> Self:
        """Make one as the settings say."""
        return cls(
            sources,
            inbox,
            rejected,
            limits,
            public_url=settings.public_url,
            max_body_bytes=settings.max_body_bytes,
            admit_soon=admit_soon,
            traffic=traffic,
            now=now,
            sleep=sleep,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one webhook and answer it."""
        started = time.perf_counter()
        try:
            receipt, waited, headers = await self._take(scope, receive)
        except ClientGone:
            return
        except Refusal as no:
            no.__context__ = None  # it and the traceback hold the body
            refusal = no.with_traceback(None)
        except Exception:
            RECEIPTS.labels(_UNKNOWN, _INTERNAL).inc()
            raise
        else:
            self._admit_soon()
            if not accepted_whole(
                scope, receipt.receipt_id
            ):  # `await accepted` is a coroutine for each webhook
                await accepted_in_messages(send, receipt.receipt_id)
            took = time.perf_counter() - started
            if traces.is_sampled(receipt.receipt_id):
                SECONDS.observe(took - waited, traces.received(receipt, took, headers))
            else:
                SECONDS.observe(took - waited)
            return
        RECEIPTS.labels(_provider(refusal.source), refusal.reason.lower()).inc()
        if refusal.status == HTTPStatus.TOO_MANY_REQUESTS:
            # A sender that is told to wait and does not is kept waiting: a flood of answers too takes the loop away.
            # Each another while: what was refused together would come again together.
            self._spread = (self._spread + _GOLDEN) % 1
            await self._sleep(_HELD_SECONDS * (0.5 + self._spread))
        await refused(
            send, refusal.status, refusal.reason, refusal.message, refusal.retry_after, refusal.allow
        )

    async def _take(self, scope: Scope, receive: Receive) -> tuple[NewReceipt, float, Mapping[str, str]]:
        """Find the source, verify, commit.

        Returns the receipt, for how many seconds the sender kept us waiting, and the headers. Raises Refusal.
        """
        target, source_id, event_type, headers, body = scope.pop(WEBHOOK, None) or _begun(scope)
        encoded = CONTENT_ENCODING in headers and _is_encoded(headers)
        # Asked for before more is read: a body that did not come with its head takes no memory for a source that is
        # not there.
        source = self._sources.get(source_id)
        if source is None:
            try:
                source = await self._sources.look_up(source_id)
            except TrunklineError as error:
                if self._sources.is_followed:  # every source is known here: this one is a stranger's, or new
                    raise _unknown(error.retry_after) from None
                most = self._max_body
                body, waited = (
                    await self._read(headers, receive, most) if body is None else _body_within(body, most)
                )
                delivery = Delivery(body, headers, self._public_url + target, self._now(), target)
                return await self._keep_unverified(source_id, event_type, delivery), waited, headers
        if source is None or not source.accepting:
            if source is not None:
                self._lines.note_disabled(source, event_type)
            raise Refusal(404, "NO_SUCH_SOURCE", f"there is no source {source_id!r}", source)

        adapter = adapter_for(source.provider)
        most = self._max_body
        if adapter.form_bytes and FORM in headers.get("content-type", "").lower():
            most = min(most, adapter.form_bytes)
        body, waited = await self._read(headers, receive, most) if body is None else _body_within(body, most)
        delivery = Delivery(body, headers, self._public_url + target, self._now(), target)
        self._hold_to_rates(source)
        try:
            if encoded or _is_slow(adapter, delivery):
                delivery = await self._verify_slowly(source, delivery, most)
                self._hold_to_rates(source)  # others were taken while it waited for its turn
            else:
                adapter.verify(source, delivery)
        except (Crowded, Malformed, Rejected) as error:
            raise self._refusal(source, event_type, delivery, error) from None
        # Only now: what strangers send is not the sender's to answer for.
        left = self._limits.ceiling.charge(source_id)
        self._limits.volume.charge(source.tenant_id, len(delivery.body))

        if source.receipts_quota:
            self._hold_to_quota(source, len(delivery.body), adapter.resends)
        receipt_id = ids.receipt_id(tracing.samples(HOOKS))
        content_type = headers.get("content-type", "")[:128]
        row = NewReceipt(
            receipt_id, source_id, source.tenant_id, event_type, delivery.received,
            VERIFIED, content_type, "", pack_some(headers, adapter.identity_headers),
            delivery.body,
        )  # fmt: skip
        if left < _NEAR_CEILING:
            await self._sleep(_LOT_SECONDS - time.monotonic() % _LOT_SECONDS)
        try:
            await self._inbox.append(row, len(delivery.body))
        except StoreError as error:
            raise _not_stored(error, source) from error
        self._accepted[source.provider].count += 1
        self._traffic.note(source.tenant_id, source_id)
        return row, waited, headers

    def _refusal(self, source: Source, event_type: str, delivery: Delivery, error: Exception) -> Refusal:
        """Return how what could not be verified is answered; what is wrongly signed is kept."""
        if isinstance(error, OpenedTooLarge):
            return Refusal(413, "BODY_TOO_LARGE", str(error), source)
        if isinstance(error, Malformed):
            return Refusal(400, "BAD_ENCODING", str(error), source)
        if isinstance(error, Crowded):
            message = "too many large webhooks of this source wait to be verified; try again"
            # Nobody has verified it: a stranger may send it too, so this is no fault of the suite.
            return Refusal(503, "VERIFICATION_BUSY", message, source, retry_after=1)
        if isinstance(error, TooLarge):
            return Refusal(413, "BODY_TOO_LARGE", str(error), source)
        self._lines.note(source, event_type, delivery, str(error))
        self._traffic.note_bad_signature(source.tenant_id, source.source_id)
        if wait := self._limits.ceiling.take("!" + source.source_id):
            return _above("this source exceeds its rate limit", source, wait)
        self._rejected.keep(source, event_type, delivery, str(error))
        return Refusal(401, "BAD_SIGNATURE", str(error), source)

    def _hold_to_quota(self, source: Source, size: int, resends: bool) -> None:
        """Refuse what is beyond a tenant's quota: first of senders that resend, of the others at twice as much."""
        kept = self._limits.kept
        if kept is None:
            return
        if kept.is_over(source, 1 if resends else GRACE):
            message = "the tenant has reached its plan's quota of receipts"
            raise Refusal(429, "RECEIPTS_QUOTA", message, source, retry_after=_QUOTA_RETRY_SECONDS)
        kept.take(source.tenant_id, size)

    def _hold_to_rates(self, source: Source) -> None:
        """Refuse what comes while a source is above its ceiling, or its tenant above its bytes a second."""
        if wait := self._limits.ceiling.wait(source.source_id):
            raise _above("this source exceeds its rate limit", source, wait)
        if wait := self._limits.volume.wait(source.tenant_id):
            raise _above("this tenant's webhooks exceed their bytes a second", source, wait)

    async def _verify_slowly(self, source: Source, delivery: Delivery, most: int) -> Delivery:
        """Verify in a thread what nobody has shown to be a sender's: it may not hold up all others. Raises Crowded."""
        futile = self._limits.futile
        if futile.wait(source.tenant_id):
            raise Crowded
        spent = 0.0

        def verify() -> Delivery:
            nonlocal spent
            began = time.perf_counter()
            try:
                return verified_as_written(source, delivery, most)
            finally:
                spent = (time.perf_counter() - began) * 1000

        try:
            return await self._aside.run(source.tenant_id, source.source_id, len(delivery.body), verify)
        except (Malformed, Rejected):
            futile.charge(source.tenant_id, spent)
            raise

    async def _read(self, headers: Mapping[str, str], receive: Receive, most: int) -> tuple[bytes, float]:
        """Return the raw body, and for how many seconds it was waited for.

        Refuses it as soon as it is known to have more than `most` bytes.
        """
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(most)
        began = time.perf_counter()
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            if len(body) > most:
                raise _too_large(most)
            return body, time.perf_counter() - began
        chunks = [body]
        size = len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":  # half a body is nobody's webhook
                raise ClientGone
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > most:
                raise _too_large(most)
        return b"".join(chunks), time.perf_counter() - began

    async def _keep_unverified(self, source_id: str, event_type: str, delivery: Delivery) -> NewReceipt:
        """Keep what nobody can judge now: the tenant service cannot be asked. Admission verifies it later."""
        url, headers = delivery.target[:2048], pack(kept_of_anybody(delivery.headers))
        weight = weight_of(url, headers, delivery.body)
        if not self._unverified.enter(weight):
            raise _unknown()
        receipt_id = ids.receipt_id(tracing.samples(HOOKS))
        row = NewReceipt(
            receipt_id, source_id, "", event_type, delivery.received, UNVERIFIED,
            delivery.headers.get("content-type", "")[:128], url, headers, delivery.body,
        )  # fmt: skip
        kept = False
        try:
            await self._inbox.append(row, len(row.body))
            kept = True
        except StoreError as error:
            raise _not_stored(error, None) from error
        finally:
            self._unverified.entered(receipt_id, weight, kept=kept)
        RECEIPTS.labels(_UNKNOWN, _UNVERIFIED).inc()
        return row


def _begun(scope: Scope) -> WebhookRequest:
    """Return what is known of a webhook before its body. Raises Refusal."""
    match = _PATH.fullmatch(scope["path"])
    if match is None:
        raise Refusal(404, "NO_SUCH_HOOK", "the path must be /hooks/{source_id}/{event_type}")
    if scope["method"] != "POST":
        raise Refusal(405, "METHOD_NOT_ALLOWED", "webhooks must be sent with POST", allow="POST")
    raw_path = scope.get("raw_path") or scope["path"].encode()
    target: str = raw_path.decode("latin-1")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("latin-1")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return WebhookRequest(target, match[1], match[2], headers, None)


def _body_within(body: bytes, most: int) -> tuple[bytes, float]:
    """Return as `_read` does what is held already. Raises Refusal."""
    if len(body) > most:
        raise _too_large(most)
    return body, 0.0


def _is_encoded(headers: Mapping[str, str]) -> bool:
    try:
        return is_encoded(headers)
    except UnknownEncoding as unknown:
        raise Refusal(415, "UNSUPPORTED_ENCODING", str(unknown)) from None


def _is_slow(adapter: Adapter, delivery: Delivery) -> bool:
    """Tell whether verifying takes a thread: of a form's fields, of a long body, of a URL that is signed too."""
    if is_long(delivery.body):
        return True
    of_fields = adapter.form_bytes and (len(delivery.target) > _LIGHT_TARGET or is_heavy_form(delivery.body))
    return bool(of_fields)


def _above(message: str, source: Source, wait: float) -> Refusal:
    return Refusal(429, "ABUSE_CEILING", message, source, retry_after=wait)


def _not_stored(error: StoreError, source: Source | None) -> Refusal:
    reason = "BUSY" if isinstance(error, StoreBusy) else "STORE_UNAVAILABLE"
    return Refusal(503, reason, "the webhook was not stored; try again", source, retry_after=1)


def _unknown(retry_after: float | None = None) -> Refusal:
    message = "the source cannot be looked up; try again"
    return Refusal(503, "SOURCE_UNKNOWN", message, retry_after=retry_after or 5)


def _too_large(most: int) -> Refusal:
    return Refusal(413, "BODY_TOO_LARGE", f"the body is larger than {most} bytes")


def _provider(source: Source | None) -> str:
    return _provider_of(source.provider) if source else _UNKNOWN


def _provider_of(value: provider_pb2.Provider.ValueType) -> str:
    return provider_pb2.Provider.Name(value)[9:].lower()
