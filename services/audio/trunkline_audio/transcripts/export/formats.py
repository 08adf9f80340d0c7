"""The formats of an exported transcript."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from trunkline_runtime.errors import FailedPrecondition
from trunkline_runtime.identity.access.rules import MOST_MESSAGE_BYTES

from trunkline_audio.names import recording_name, transcript_name
from trunkline_audio.transcripts.export.cues import Subtitle, cues
from trunkline_audio.transcripts.rows import Transcript
from trunkline_audio.transcripts.speakers import IDS, labels

MOST_BYTES = MOST_MESSAGE_BYTES - 1_024
"""Of a file: what one message holds."""
VERSION = 1
"""Of the JSON: members may be added to a version, never removed or changed."""

# SubRip has no way to write what it takes for a tag, or for the line of a subtitle's times.
_SUBRIP = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")"})
_WEBVTT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def text(transcript: Transcript) -> str:
    """Return a line a segment: its time, its speaker, its words."""
    lines = []
    for item, label in zip(transcript.segments, labels(transcript), strict=True):
        said = " ".join(item["text"].split())
        if said:
            speaker = f"{label}: " if label else ""
            lines.append(f"[{_clock(item['start'] // 1_000)[:-4]}] {speaker}{said}\n")
    return "".join(lines)


def srt(transcript: Transcript) -> str:
    """Return SubRip; the speaker stands before the first words of each turn."""
    speaking = ""
    blocks = []
    for number, cue in enumerate(cues(transcript, lambda label: len(_prefix(label))), 1):
        prefix = _prefix(cue.label) if cue.label != speaking else ""
        speaking = cue.label
        said = "\n".join(cue.lines).translate(_SUBRIP)
        blocks.append(f"{number}\n{_span(cue).replace('.', ',')}\n{prefix}{said}\n\n")
    return "".join(blocks)


def vtt(transcript: Transcript) -> str:
    """Return WebVTT; the speaker is each subtitle's voice."""
    blocks = ["WEBVTT\n"]
    for cue in cues(transcript):
        voice = f"<v {cue.label}>" if cue.label else ""
        said = "\n".join(cue.lines).translate(_WEBVTT)
        blocks.append(f"\n{_span(cue)}\n{voice}{said}\n")
    return "".join(blocks)


def document(transcript: Transcript) -> str:
    """Return JSON, whose times are seconds with six decimals at most."""
    whole = {
        "version": VERSION,
        "transcript": transcript_name(transcript.tenant_id, transcript.transcript_id),
        "recording": recording_name(transcript.tenant_id, transcript.recording_id),
        "language": transcript.language,
        "engine": transcript.engine,
        "duration": transcript.duration_us / 1e6,
        "confidence": transcript.confidence,
        "unreliableReason": transcript.unreliable_reason,
        "segments": [_segment(item) for item in transcript.segments],
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n"


FORMATS: Mapping[str, tuple[str, Callable[[Transcript], str]]] = {
    "text": ("text/plain; charset=utf-8", text),
    "srt": ("application/x-subrip; charset=utf-8", srt),
    "vtt": ("text/vtt; charset=utf-8", vtt),
    "json": ("application/json", document),
}
"""The content type of each format, and what writes it."""


def exported(transcript: Transcript, kind: str) -> tuple[str, bytes]:
    """Return a transcript as a file of that format: its content type, and its bytes. Raises FailedPrecondition."""
    content_type, write = FORMATS[kind]
    data = write(transcript).encode()
    if len(data) > MOST_BYTES:
        raise FailedPrecondition(
            f"the file would have {len(data):,} bytes, and at most {MOST_BYTES:,} can be sent",
            reason="EXPORT_TOO_LARGE",
        )
    return content_type, data


def _segment(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "speaker": IDS.get(item["speaker"], ""),
        "channel": item["channel"],
        "start": item["start"] / 1e6,
        "end": item["end"] / 1e6,
        "text": item["text"],
        "words": [
            {"text": word, "start": start / 1e6, "end": end / 1e6, "confidence": round(confidence, 4)}
            for word, start, end, confidence in item["words"]
        ],
    }


def _prefix(label: str) -> str:
    return f"{label}: " if label else ""


def _span(cue: Subtitle) -> str:
    return f"{_clock(cue.start)} --> {_clock(cue.end)}"


def _clock(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02}.{rest:03}"
