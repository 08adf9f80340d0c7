"""Who may call the tenant service."""

from trunkline_runtime.identity.access.rules import (
    AI,
    ANY_SERVICE,
    AUDIO,
    GATEWAY,
    internal,
    manage,
    operate,
    package,
    read,
)

RULES = package(
    "trunkline.tenant.v1",
    TenantService={
        "CreateTenant": operate(),
        "GetTenant": read("name", services=GATEWAY | AUDIO | AI),
        "ListTenants": operate(scans=True),
        "UpdateTenant": operate("tenant.name"),
        "DeleteTenant": operate("name"),
        "ListTombstones": internal(),
        "PurgeTenant": internal("name"),
        "ConfirmPurge": internal("name"),
    },
    SourceService={
        "CreateSource": manage("parent"),
        "GetSource": read("name"),
        "ListSources": read("parent", scans=True),
        "UpdateSource": manage("source.name"),
        "DeleteSource": manage("name"),
        "RotateSourceSecret": manage("name"),
        "ResolveSource": internal(),
        "WatchSources": internal(),
    },
    ApiKeyService={
        "CreateApiKey": manage("parent"),
        "GetApiKey": manage("name"),
        "ListApiKeys": manage("parent", scans=True),
        "DeleteApiKey": manage("name"),
        "Authenticate": internal(services=ANY_SERVICE),
    },
    RateService={
        "TakeRequests": internal(),
    },
    CallService={
        "RecordCall": operate("parent", ("call.name", "call.source", "event")),
        "RecordCallState": internal("name", ("event",)),
        "ForgetRecording": internal("name", ("recording",), services=AUDIO),
        "ForgetTranscript": internal("name", ("transcript",), services=AUDIO),
        "EraseCall": internal("name"),
        "GetCall": read("name"),
        "ListCalls": read("parent", scans=True),
    },
    LeadService={
        "GetLead": read("name"),
        "ListLeads": read("parent", scans=True),
    },
    CostService={
        "GetCosts": read("name", services=GATEWAY | AUDIO | AI),
        "ListCosts": operate(scans=True),
        "RecordCharges": internal("parent", services=AUDIO | AI),
    },
)
