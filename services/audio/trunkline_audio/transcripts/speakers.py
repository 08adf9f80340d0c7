"""Who speaks in a transcript, and what speakers are called where people and programs read it."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.audio.v1 import transcript_pb2

from trunkline_audio.engines.base import Segment
from trunkline_audio.transcripts.rows import Transcript

AGENT_THEN_CUSTOMER = (transcript_pb2.SPEAKER_AGENT, transcript_pb2.SPEAKER_CUSTOMER)
VOICES = (
    transcript_pb2.SPEAKER_UNSPECIFIED,
    transcript_pb2.SPEAKER_VOICE_1,
    transcript_pb2.SPEAKER_VOICE_2,
    transcript_pb2.SPEAKER_VOICE_3,
)
IDS = {
    transcript_pb2.SPEAKER_UNSPECIFIED: "",
    transcript_pb2.SPEAKER_AGENT: "agent",
    transcript_pb2.SPEAKER_CUSTOMER: "customer",
    transcript_pb2.SPEAKER_VOICE_1: "voice_1",
    transcript_pb2.SPEAKER_VOICE_2: "voice_2",
    transcript_pb2.SPEAKER_VOICE_3: "voice_3",
}
_LABELS = {
    transcript_pb2.SPEAKER_AGENT: "Agent",
    transcript_pb2.SPEAKER_CUSTOMER: "Customer",
    transcript_pb2.SPEAKER_VOICE_1: "Voice 1",
    transcript_pb2.SPEAKER_VOICE_2: "Voice 2",
    transcript_pb2.SPEAKER_VOICE_3: "Voice 3",
}


def labels(transcript: Transcript) -> list[str]:
    """Return what the speaker of each segment is called: a channel where no role is known, empty where nothing is."""
    channels = {item["channel"] for item in transcript.segments}
    return [
        _LABELS.get(item["speaker"], f"Channel {item['channel'] + 1}" if len(channels) > 1 else "")
        for item in transcript.segments
    ]


def role(lane: int, roles: Sequence[int]) -> int:
    """Return who speaks on a channel; `roles` are those of the channels."""
    return roles[lane] if lane < len(roles) else transcript_pb2.SPEAKER_UNSPECIFIED


def speaker(item: Segment, lanes: int, roles: Sequence[int]) -> int:
    """Return who says a segment of a recording with so many lanes; `roles` are those of its channels."""
    if lanes > 1:
        return role(item.lane, roles)
    return VOICES[item.voice] if item.voice < len(VOICES) else transcript_pb2.SPEAKER_UNSPECIFIED
