"""Who may call the gateway's RPCs."""

from trunkline_runtime.identity.access.rules import internal, manage, package, read, write

RULES = package(
    "trunkline.gateway.v1",
    EventService={
        "GetEvent": read("name"),
        "ListEvents": read("parent"),
        "GetReceipt": read("name"),
        "ListReplays": read("parent"),
        "CancelEvent": write("name"),
        "DeleteRejection": manage("name"),
        "ListRejections": manage("parent"),
        "ListDeadLetters": read("parent"),
        "ReplayEvent": write("name"),
        "ReplayEvents": manage("parent"),
        "GetReplay": read("name"),
        "AcceptRejection": manage("name"),
        "AcceptRejections": manage("parent"),
        "PurgeEvents": manage("parent"),
    },
    JobService={
        "ClaimJobs": internal(),
        "RenewLeases": internal(),
        "ReportJobs": internal(),
        "ReleaseLeases": internal(),
    },
    ConversationService={
        "GetConversation": read("name"),
    },
    UsageService={
        "GetUsage": read("name"),
    },
)
