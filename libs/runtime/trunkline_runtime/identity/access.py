"""THE one table: who may call which RPC, and which field of the request says whose data it is.

An RPC that is not here is denied to everybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trunkline_runtime.identity.callers import Role
from trunkline_runtime.limits import MOST_MESSAGE_BYTES, MOST_REQUEST_BYTES

GATEWAY = frozenset({"gateway"})
AUDIO = frozenset({"audio"})
ANY_SERVICE = frozenset({"*"})
OPEN_PREFIXES = ("/grpc.health.v1.", "/grpc.reflection.")


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call a method.

    `role` is the least role of an API key (None: no key may). `services` are the services that may.
    `resource` is the path of the field that holds the resource name or the parent (`call.name`; empty: the
    method is not about one tenant, so nobody who is confined to one may call it). `also` are further names
    that must be of the same tenant. `large` methods take requests of MOST_MESSAGE_BYTES, others of
    MOST_REQUEST_BYTES. `scans` methods may look at many rows: few of one tenant run at once (rpc/scans.py).
    """

    role: Role | None
    services: frozenset[str] = GATEWAY
    operators: bool = True
    resource: str = ""
    also: tuple[str, ...] = ()
    large: bool = False
    scans: bool = False

    @property
    def most_bytes(self) -> int:
        """The largest request."""
        return MOST_MESSAGE_BYTES if self.large else MOST_REQUEST_BYTES


def _read(resource: str = "name") -> Rule:
    return Rule(Role.VIEWER, resource=resource)


def _list() -> Rule:
    return Rule(Role.VIEWER, resource="parent", scans=True)


def _manage_many() -> Rule:
    return Rule(Role.ADMIN, resource="parent", scans=True)


def _write(resource: str = "name", *also: str) -> Rule:
    return Rule(Role.MEMBER, resource=resource, also=also)


def _manage(resource: str = "name", *also: str) -> Rule:
    return Rule(Role.ADMIN, resource=resource, also=also)


def _operate(resource: str = "") -> Rule:
    return Rule(None, resource=resource)


def _pipeline(resource: str, *also: str, large: bool = False) -> Rule:
    return Rule(None, resource=resource, also=also, large=large)


def _internal(resource: str = "", *, services: frozenset[str] = GATEWAY) -> Rule:
    return Rule(None, services=services, operators=False, resource=resource)


_TENANT = "/trunkline.tenant.v1."
_AUDIO = "/trunkline.audio.v1."
_AI = "/trunkline.ai.v1."
_GATEWAY = "/trunkline.gateway.v1."
_OPERATIONS = "/google.longrunning.Operations/"

TABLE: Mapping[str, Rule] = {
    _TENANT + "TenantService/CreateTenant": _operate(),
    _TENANT + "TenantService/GetTenant": _read(),
    _TENANT + "TenantService/ListTenants": Rule(None, scans=True),
    _TENANT + "TenantService/UpdateTenant": _operate("tenant.name"),
    _TENANT + "TenantService/DeleteTenant": _operate("name"),
    _TENANT + "TenantService/ListTombstones": _internal(),
    _TENANT + "TenantService/PurgeTenant": _internal("name"),
    _TENANT + "TenantService/ConfirmPurge": _internal("name"),
    _TENANT + "SourceService/CreateSource": _manage("parent"),
    _TENANT + "SourceService/GetSource": _read(),
    _TENANT + "SourceService/ListSources": _list(),
    _TENANT + "SourceService/UpdateSource": _manage("source.name"),
    _TENANT + "SourceService/DeleteSource": _manage(),
    _TENANT + "SourceService/RotateSourceSecret": _manage(),
    _TENANT + "SourceService/ResolveSource": _internal(),
    _TENANT + "SourceService/WatchSources": _internal(),
    _TENANT + "ApiKeyService/CreateApiKey": _manage("parent"),
    _TENANT + "ApiKeyService/GetApiKey": _manage(),
    _TENANT + "ApiKeyService/ListApiKeys": _manage_many(),
    _TENANT + "ApiKeyService/DeleteApiKey": _manage(),
    _TENANT + "ApiKeyService/Authenticate": _internal(services=ANY_SERVICE),
    _TENANT + "CallService/RecordCall": _pipeline("parent", "call.name", "call.source", "event"),
    _TENANT + "CallService/RecordCallState": Rule(None, operators=False, resource="name", also=("event",)),
    _TENANT + "CallService/ForgetRecording": Rule(
        None, services=AUDIO, operators=False, resource="name", also=("recording",)
    ),
    _TENANT + "CallService/GetCall": _read(),
    _TENANT + "CallService/ListCalls": _list(),
    _TENANT + "LeadService/GetLead": _read(),
    _TENANT + "LeadService/ListLeads": _list(),
    _AUDIO + "RecordingService/FetchRecording": _pipeline("parent", "call"),
    _AUDIO + "RecordingService/GetRecording": _read(),
    _AUDIO + "RecordingService/ListRecordings": _list(),
    _AUDIO + "RecordingService/DeleteRecording": _write(),
    _AUDIO + "TranscriptionService/CreateTranscript": _write("parent", "recording"),
    _AUDIO + "TranscriptionService/TranscribeRecording": _write(),
    _AUDIO + "TranscriptionService/GetTranscript": _read(),
    _AUDIO + "TranscriptionService/ListTranscripts": _list(),
    _AUDIO + "AdminService/PurgeTenant": _internal("name"),
    _AUDIO + "AdminService/CountTenant": _internal("name"),
    _AI + "AdminService/PurgeTenant": _internal("name"),
    _AI + "AnalysisService/AnalyzeCall": _pipeline("parent", "call", large=True),  # a transcript
    _AI + "AnalysisService/GetAnalysis": _read(),
    _AI + "AnalysisService/ListAnalyses": _list(),
    _AI + "AnalysisService/DeleteAnalysis": _write(),
    # Every service serves them, each for its own operations; the gateway's pipeline waits for those that it starts.
    _OPERATIONS + "GetOperation": _read(),
    _OPERATIONS + "ListOperations": Rule(Role.VIEWER, resource="name", scans=True),
    _OPERATIONS + "WaitOperation": _read(),
    _OPERATIONS + "CancelOperation": _write(),
    _OPERATIONS + "DeleteOperation": _write(),
    _GATEWAY + "EventService/GetEvent": _read(),
    _GATEWAY + "EventService/ListEvents": _list(),
    _GATEWAY + "EventService/GetReceipt": _read(),
    _GATEWAY + "EventService/ListReceipts": _list(),
    _GATEWAY + "EventService/GetRejection": _manage(),
    _GATEWAY + "EventService/ListReplays": _list(),
    _GATEWAY + "EventService/CancelEvent": _write(),
    _GATEWAY + "EventService/DeleteRejection": _manage(),
    _GATEWAY + "EventService/ListRejections": _manage_many(),
    _GATEWAY + "EventService/ListDeadLetters": _list(),
    _GATEWAY + "EventService/ReplayEvent": _write(),
    _GATEWAY + "EventService/ReplayEvents": _manage_many(),
    _GATEWAY + "EventService/GetReplay": _read(),
    _GATEWAY + "EventService/AcceptRejection": _manage(),
    _GATEWAY + "EventService/AcceptRejections": _manage_many(),
    _GATEWAY + "EventService/PurgeEvents": _manage_many(),
    _GATEWAY + "JobService/ClaimJobs": _internal(),
    _GATEWAY + "JobService/RenewLeases": _internal(),
    _GATEWAY + "JobService/ReportJobs": _internal(),
    _GATEWAY + "JobService/ReleaseLeases": _internal(),
    _GATEWAY + "ConversationService/GetConversation": _read(),
    _GATEWAY + "UsageService/GetUsage": Rule(Role.VIEWER, resource="name", scans=True),
}
