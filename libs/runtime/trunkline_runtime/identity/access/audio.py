"""Who may call the audio service."""

from trunkline_runtime.identity.access.rules import internal, operate, package, read, write

RULES = package(
    "trunkline.audio.v1",
    RecordingService={
        "FetchRecording": operate("parent", ("call",)),
        "GetRecording": read("name"),
        "ListRecordings": read("parent", scans=True),
        "DeleteRecording": write("name"),
    },
    TranscriptionService={
        "CreateTranscript": write("parent", ("recording",)),
        "TranscribeRecording": write("name"),
        "GetTranscript": read("name"),
        "ListTranscripts": read("parent", scans=True),
        "DeleteTranscript": write("name"),
    },
    AdminService={
        "PurgeTenant": internal("name"),
        "CountTenant": internal("name"),
        "PurgeCalls": internal("parent"),
    },
)
