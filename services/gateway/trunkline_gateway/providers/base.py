"""What the gateway and the adapters speak of: sources, deliveries, identities, facts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from trunkline.common.v1 import analysis_settings_pb2, audio_pb2, provider_pb2, speech_pb2
from trunkline.tenant.v1 import call_pb2, source_pb2, tenant_pb2

# Stages of the pipeline, in the order they run. Every event has the first one; an adapter names the others that an
# event needs.
NORMALISE = "normalise"
FETCH = "fetch_recording"
TRANSCRIBE = "transcribe"
ANALYSE = "analyse"
RECORD = "record"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that verifies, until `expires` when that is set."""

    value: str = field(repr=False)
    expires: datetime | None = None
    name: str = ""  # of a lasting one beside the source's own


@dataclass(frozen=True, slots=True)
class Source:
    """A source as the gateway holds it in memory; built once per change, read on every webhook."""

    source_id: str
    tenant_id: str
    provider: provider_pb2.Provider.ValueType
    secrets: tuple[Secret, ...] = field(repr=False)
    accepting: bool = True
    language: str = ""
    provider_account: str = ""
    fetch_credential: str = field(default="", repr=False)
    mapping: source_pb2.PayloadMapping | None = None
    hmac: source_pb2.HmacOptions | None = None
    api_base_url: str = ""
    region: str = ""  # where numbers without a country code are at home
    channel_roles: source_pb2.ChannelRoles.ValueType = source_pb2.CHANNEL_ROLES_UNSPECIFIED
    headerless_format: audio_pb2.HeaderlessFormat.ValueType = audio_pb2.HEADERLESS_FORMAT_UNSPECIFIED
    secret_form: source_pb2.SecretForm.ValueType = source_pb2.SECRET_FORM_UNSPECIFIED
    retention: tenant_pb2.Retention = field(default_factory=tenant_pb2.Retention)
    quotas: tenant_pb2.Quotas = field(default_factory=tenant_pb2.Quotas)
    speech_settings: speech_pb2.SpeechSettings = field(default_factory=speech_pb2.SpeechSettings)
    analysis_settings: analysis_settings_pb2.AnalysisSettings = field(
        default_factory=analysis_settings_pb2.AnalysisSettings
    )
    receipts_quota: int = 0  # of the quotas the one that every webhook is held to, in bytes; 0: no bound


@dataclass(slots=True)  # not frozen: that would cost a microsecond a webhook
class Delivery:
    """One HTTP request as it came: what a signature may cover. Nobody changes it."""

    body: bytes
    headers: Mapping[str, str]  # lower-case names; of repeated ones the last
    url: str  # the public URL with its query, as the provider signed it
    received: datetime
    target: str = ""  # the path and query that came, which the public URL ends with


@dataclass(slots=True)  # not frozen: that would cost a microsecond a receipt
class Identity:
    """What makes a delivery the event it is. Nobody changes it."""

    dedup_fields: tuple[str, ...]  # after source and event type
    call_aliases: tuple[str, ...]  # the provider's ids of the call, most lasting first; empty: no call
    event_time: datetime | None  # as the provider says; None: taken as the time of receipt
    revises: str = (
        ""  # a digest of what the call was changed to; the same change may come again after another
    )


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """Where a recording is and what to show there. Never stored, never logged."""

    key: str  # the provider's id of the recording, part of the recording's own id
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    url_field: str = ""  # see FetchRecordingRequest.url_field


def link_key(url: str) -> str:
    """Return what tells a file by its link. Signed links change with every sending: what is before the query stays."""
    return hashlib.sha256(url.split("?", 1)[0].encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """Where a file of a message is and what to show there. Never stored, never logged."""

    key: str  # what makes it the same file, part of its recording's id
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where the provider's API tells of the call what the event does not."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """What one event says about a call."""

    call: call_pb2.Call
    stated: tuple[str, ...]  # the fields of `call` that the event states
    aliases: tuple[str, ...]
    rank: int  # see RecordCallRequest.rank
    stages: tuple[str, ...]  # of FETCH, TRANSCRIBE, ANALYSE, RECORD
    recording: RecordingRequest | None = None
    recording_problem: str = ""  # why the recording that the event names cannot be asked for
    text: str = field(default="", repr=False)  # to analyse in place of a transcript
    event_time: datetime | None = None
    media: tuple[MediaRequest, ...] = ()
    lookup: Lookup | None = None  # asked when nobody knows the caller's number
    warnings: tuple[str, ...] = ()  # what of the payload was left out; names fields, never content


class Malformed(Exception):
    """The payload cannot be what the event type says; the text names the field and what is allowed."""


class Rejected(Exception):
    """The signature is wrong or missing; the text says which, without any secret."""


class TooLarge(Rejected):
    """The body is too large to be looked at by somebody who has not shown a signature; the text names the bound."""
