"""Who may call the ai service."""

from trunkline_runtime.identity.access.rules import internal, operate, package, read, write

RULES = package(
    "trunkline.ai.v1",
    AnalysisService={
        "AnalyzeCall": operate("parent", ("call",), large=True),  # a transcript
        "GetAnalysis": read("name"),
        "ListAnalyses": read("parent", scans=True),
        "DeleteAnalysis": write("name"),
    },
    AdminService={
        "PurgeTenant": internal("name"),
        "PurgeCalls": internal("parent"),
    },
)
