"""Who may call the audio service."""

from trunkline_runtime.identity.access.rules import internal, operate, package, read, write

RULES = package(
    "trunkline.audio.v1",
    RecordingService={
        "FetchRecording": operate("parent", ("call",)),
        "UploadRecording": write("parent", ("call",)),
        "ReadRecording": read("name"),
        "CreateDownloadLink": write("name"),
        "GetRecording": read("name"),
        "ListRecordings": read("parent", scans=True),
        "DeleteRecording": write("name"),
    },
    UploadService={
        "CreateUpload": write("parent", ("upload.call",)),
        "GetUpload": read("name"),
        "WriteUpload": write("name"),
        "DeleteUpload": write("name"),
    },
    TranscriptionService={
        "CreateTranscript": write("parent", ("recording",)),
        "TranscribeRecording": write("name"),
        "WatchTranscription": read("name"),
        "BatchTranscribeRecordings": write("parent"),
        "GetTranscript": read("name"),
        "ListTranscripts": read("parent", scans=True),
        "ExportTranscript": read("name"),
        "SearchTranscript": read("name"),
        "DeleteTranscript": write("name"),
    },
    AudioFeatureService={
        "GetAudioFeatures": read("name"),
    },
    AdminService={
        "PurgeTenant": internal("name"),
        "CountTenant": internal("name"),
        "PurgeCalls": internal("parent"),
    },
)
