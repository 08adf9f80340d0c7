"""What speakers are called where people and programs read a transcript."""

from __future__ import annotations

from trunkline.audio.v1 import transcript_pb2

from trunkline_audio.transcripts.rows import Transcript

IDS = {
    transcript_pb2.SPEAKER_UNSPECIFIED: "",
    transcript_pb2.SPEAKER_AGENT: "agent",
    transcript_pb2.SPEAKER_CUSTOMER: "customer",
    transcript_pb2.SPEAKER_VOICE_1: "voice_1",
    transcript_pb2.SPEAKER_VOICE_2: "voice_2",
}
_LABELS = {
    transcript_pb2.SPEAKER_AGENT: "Agent",
    transcript_pb2.SPEAKER_CUSTOMER: "Customer",
    transcript_pb2.SPEAKER_VOICE_1: "Voice 1",
    transcript_pb2.SPEAKER_VOICE_2: "Voice 2",
}


def labels(transcript: Transcript) -> list[str]:
    """Return what the speaker of each segment is called: a channel where no role is known, empty where nothing is."""
    channels = {item["channel"] for item in transcript.segments}
    return [
        _LABELS.get(item["speaker"], f"Channel {item['channel'] + 1}" if len(channels) > 1 else "")
        for item in transcript.segments
    ]
