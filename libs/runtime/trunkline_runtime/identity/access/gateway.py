"""Who may call the gateway's RPCs."""

from trunkline_runtime.identity.access.rules import internal, manage, package, read, write

RULES = package(
    "trunkline.gateway.v1",
    EventService={
        "GetEvent": read("name"),
        "ListEvents": read("parent", scans=True),
        "GetReceipt": read("name"),
        "ListReceipts": read("parent", scans=True),
        "GetRejection": manage("name"),
        "ListReplays": read("parent", scans=True),
        "CancelEvent": write("name"),
        "DeleteRejection": manage("name"),
        "ListRejections": manage("parent", scans=True),
        "ListDeadLetters": read("parent", scans=True),
        "ReplayEvent": write("name"),
        "ReplayEvents": manage("parent", scans=True),
        "GetReplay": read("name"),
        "AcceptRejection": manage("name"),
        "AcceptRejections": manage("parent", scans=True),
        "PurgeEvents": manage("parent", scans=True),
    },
    JobService={
        "ClaimJobs": internal(),
        "RenewLeases": internal(),
        "ReportJobs": internal(),
        "ReleaseLeases": internal(),
    },
    ConversationService={
        "GetConversation": read("name"),
        "DeleteCall": manage("name"),
        "DeleteCaller": manage("name"),
    },
    UsageService={
        "GetUsage": read("name", scans=True),
    },
)
