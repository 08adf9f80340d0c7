"""From a request's transcript or text to what engines read: roles told, context kept, digest made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.duration_pb2 import Duration
from trunkline.ai.v1 import analysis_service_pb2
from trunkline.audio.v1 import transcript_pb2
from trunkline.common.v1 import provider_pb2
from trunkline_runtime.digests import digest
from trunkline_runtime.engines.fairness import queue_class
from trunkline_runtime.errors import InvalidArgument

from trunkline_ai.engines.base import Context, Moment, SpeakerRole, Transcript, Turn
from trunkline_ai.engines.labels import Unreliable
from trunkline_ai.engines.local.text import canonical

_TOLD: dict[int, SpeakerRole] = {
    transcript_pb2.SPEAKER_AGENT: SpeakerRole.AGENT,
    transcript_pb2.SPEAKER_CUSTOMER: SpeakerRole.CUSTOMER,
}
_VOICES = (transcript_pb2.SPEAKER_VOICE_1, transcript_pb2.SPEAKER_VOICE_2)
_SPOKEN_EARLY = 3
_MOST_SECONDS = 366 * 86_400
"""Of a time in a recording: what is beyond is no time of a conversation, and may be more than a clock holds."""
_BETWEEN_WORDS = 4
"""Characters that may stand between two words of a segment: white space and punctuation."""


@dataclass(frozen=True)
class RoleWords:
    """What the business says and customers don't, in canonical form."""

    greetings: tuple[str, ...]
    offers: tuple[str, ...]


WORDS = RoleWords(
    greetings=(
        "how can i help", "how may i help", "can i help you", "thank you for calling", "thanks for calling",
        "you have reached", "leave a message", "how may i direct", "what can i do for you",
        "may i ask who is calling", "how can i assist",
    ),
    offers=("how can i help", "how may i help", "can i help you", "may i help you", "how can i assist"),
)  # fmt: skip


@dataclass(frozen=True)
class Dialogue:
    """An engine's input, and the digest of the request that it was read from."""

    transcript: Transcript
    context: Context
    digest: bytes


def dialogue_of(request: analysis_service_pb2.AnalyzeCallRequest, words: RoleWords = WORDS) -> Dialogue:
    """Read a request; a plain text is one turn of whoever wrote it: the customer, unless the business sent it.

    Raises InvalidArgument for a segment or a word that is said to be years behind the recording's start.
    """
    known: dict[str, Any] = {
        "tenant_id": request.parent.rpartition("/")[2],
        "call_id": request.call.rpartition("/")[2],
        "generation": request.generation,
        "voicemail": request.voicemail,
        "settings": request.settings,
        "priority": queue_class(request.priority),
    }
    if request.WhichOneof("input") == "text":
        outbound = request.direction == provider_pb2.DIRECTION_OUTBOUND
        writer = SpeakerRole.AGENT if outbound else SpeakerRole.CUSTOMER
        transcript = Transcript((Turn(writer, request.text),) if request.text.strip() else ())
        context = Context(message=True, **known)
    else:
        _check_times(request.transcript.segments)
        transcript = Transcript(_turns(request.transcript.segments, words))
        context = Context(
            language=request.transcript.language, unreliable=_unreliable(request.transcript), **known
        )
    return Dialogue(transcript, context, input_digest(request))


def _check_times(segments: Sequence[transcript_pb2.Segment]) -> None:
    for number, segment in enumerate(segments):
        name = f"transcript.segments[{number}]"
        _check_time(f"{name}.start_offset", segment.start_offset)
        _check_time(f"{name}.end_offset", segment.end_offset)
        for at, word in enumerate(segment.words):
            _check_time(f"{name}.words[{at}].start_offset", word.start_offset)
            _check_time(f"{name}.words[{at}].end_offset", word.end_offset)


def _check_time(name: str, offset: Duration) -> None:
    if abs(offset.seconds) > _MOST_SECONDS:
        raise InvalidArgument(name, f"must be at most {_MOST_SECONDS} seconds")


def input_digest(request: analysis_service_pb2.AnalyzeCallRequest) -> bytes:
    """Digest what was said and by whom, as the caller gave it; not timings.

    Nothing that this service makes of the input goes in. Otherwise a better guess of the roles, or another word in a
    list, would be another input, and every conversation would be analysed and paid for again (decisions/0019).
    """
    facts = [str(request.WhichOneof("input")), str(request.voicemail)]
    if request.WhichOneof("input") == "text":
        return digest(*facts, str(request.direction), request.text)
    given = request.transcript
    facts += [given.language, str(given.unreliable), given.unreliable_reason]
    return digest(*facts, *(part for one in given.segments for part in (str(one.speaker), one.text)))


def _unreliable(transcript: transcript_pb2.Transcript) -> str:
    """Why a transcript cannot be relied on; a reason that is not told is the usual one."""
    return (transcript.unreliable_reason or Unreliable.LOW_CONFIDENCE.value) if transcript.unreliable else ""


def _turns(segments: Sequence[transcript_pb2.Segment], words: RoleWords) -> tuple[Turn, ...]:
    """Turns with roles; neighbouring segments of one speaker become one turn."""
    heard = [segment for segment in segments if segment.text.strip()]
    spoken = [(segment.speaker, segment.text.strip()) for segment in heard]
    roles = {**_told_roles(spoken, words), **_roles_of_voices(spoken, words)}
    turns: list[_Stretch] = []
    for segment, (speaker, text) in zip(heard, spoken, strict=True):
        role = roles.get(speaker, SpeakerRole.UNKNOWN)
        if not turns or turns[-1].role is not role or role is SpeakerRole.UNKNOWN:
            turns.append(_Stretch(role))
        turns[-1].add(segment, text)
    return tuple(Turn(one.role, " ".join(one.texts), tuple(one.times)) for one in turns)


@dataclass(slots=True)
class _Stretch:
    """A turn that is being put together: an hour of one voice is thousands of segments."""

    role: SpeakerRole
    texts: list[str] = field(default_factory=list)
    times: list[Moment] = field(default_factory=list)
    length: int = 0
    """Characters, with the space behind each text."""

    def add(self, segment: transcript_pb2.Segment, text: str) -> None:
        """Take one more segment, whose text is stripped."""
        self.texts.append(text)
        self.times += _times(segment, text, self.length)
        self.length += len(text) + 1


def _times(segment: transcript_pb2.Segment, text: str, offset: int) -> tuple[Moment, ...]:
    """When the words of a segment were said; the words that the engine did not place have their segment's times."""
    began, ended = segment.start_offset.ToTimedelta(), segment.end_offset.ToTimedelta()
    if not ended:
        return ()
    whole = Moment(offset, began.total_seconds(), ended.total_seconds())
    times: list[Moment] = []
    at = 0
    for word in segment.words:
        said = word.text.strip()
        place = text.find(said, at, at + len(said) + _BETWEEN_WORDS) if said else -1
        if place < 0:  # the text is not its words: numbers may be written otherwise
            return (whole,)
        start, end = word.start_offset.ToTimedelta(), word.end_offset.ToTimedelta()
        times.append(Moment(offset + place, start.total_seconds(), end.total_seconds()))
        at = place + len(said)
    return tuple(times) or (whole,)


def _told_roles(spoken: Sequence[tuple[int, str]], words: RoleWords) -> dict[int, SpeakerRole]:
    """What the transcript says, the other way round when it is the customer who offers help.

    Which channel is whose is a setting of the source, and easily set wrong; customers do not ask how they can help.
    """
    agent, customer = transcript_pb2.SPEAKER_AGENT, transcript_pb2.SPEAKER_CUSTOMER
    early = spoken[: 2 * _SPOKEN_EARLY]
    if _offers_help(early, customer, words) and not _offers_help(early, agent, words):
        return {agent: SpeakerRole.CUSTOMER, customer: SpeakerRole.AGENT}
    return _TOLD


def _offers_help(spoken: Sequence[tuple[int, str]], speaker: int, words: RoleWords) -> bool:
    said = " ".join(canonical(text) for who, text in spoken if who == speaker)
    return any(offer in said for offer in words.offers)


def _roles_of_voices(spoken: Sequence[tuple[int, str]], words: RoleWords) -> dict[int, SpeakerRole]:
    """Which of two voices is the business's: the one that greets; else whoever spoke first, as calls are answered.

    A single voice that does not greet is the customer's: a message or a recorded caller.
    """
    voices = list(dict.fromkeys(speaker for speaker, _ in spoken if speaker in _VOICES))
    greeter = next(
        (
            speaker
            for speaker, text in spoken[:_SPOKEN_EARLY]
            if speaker in _VOICES and any(greeting in canonical(text) for greeting in words.greetings)
        ),
        None,
    )
    if greeter is None and len(voices) > 1:
        greeter = voices[0]
    if len(voices) == 1:
        # One voice may be two that were not told apart: a greeting then says nothing about the rest.
        return {voices[0]: SpeakerRole.UNKNOWN if greeter is not None else SpeakerRole.CUSTOMER}
    return {voice: SpeakerRole.AGENT if voice == greeter else SpeakerRole.CUSTOMER for voice in voices}
