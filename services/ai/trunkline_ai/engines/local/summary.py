"""An extractive summary: the customer's most telling sentences, in the order they were said; or why there is none."""

from dataclasses import dataclass

from trunkline_ai.engines.base import Context, Entity, SpeakerRole, Transcript
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.language import name_of
from trunkline_ai.engines.local.text import canonical, sentences, shown

_MOST_SENTENCES = 3
_MOST_CHARACTERS = 400
_STOP = cues.words("summary_stop")
NOBODY = "Nobody spoke."
ONLY_THE_BUSINESS = "Only the business spoke."
NO_CONVERSATION = "Nothing was said beyond a greeting, or not to the business."
NO_MATTER = "The message says nothing beyond a greeting."
NOT_UNDERSTOOD = "The conversation could not be understood reliably."


@dataclass(frozen=True)
class _Candidate:
    position: int
    text: str
    words: frozenset[str]
    score: float


def not_analysed(language: str, context: Context) -> str:
    """The summary of a conversation in another language (a BCP 47 tag) than English."""
    what = "message" if context.message else "call"
    return f"The {what} is in {name_of(language)} and was not analysed."


def silence(transcript: Transcript, context: Context) -> str:
    """The summary where there was no conversation."""
    if not transcript.text.strip():
        return NOBODY
    if context.message:
        return NO_MATTER
    business_alone = all(turn.role is SpeakerRole.AGENT for turn in transcript.turns)
    return ONLY_THE_BUSINESS if business_alone else NO_CONVERSATION


def summarise(transcript: Transcript, entities: tuple[Entity, ...]) -> str:
    """A few sentences of the customer (of everybody when the customer is not told apart), verbatim."""
    spoken = [turn for turn in transcript.turns if turn.role is not SpeakerRole.AGENT] or list(
        transcript.turns
    )
    lines = [shown(sentence) for turn in spoken for sentence in sentences(turn.text)]
    frequency: dict[str, int] = {}
    content = [frozenset(canonical(line).split()) - _STOP for line in lines]
    for words in content:
        for word in words:
            frequency[word] = frequency.get(word, 0) + 1
    named = {entity.text.lower() for entity in entities}
    candidates = []
    for position, (line, words) in enumerate(zip(lines, content, strict=True)):
        if not words:
            continue
        lowered = line.lower()
        telling = sum(min(frequency[word], 3) for word in words) / (3 + len(words)) + min(len(words), 12) / 12
        telling += 0.4 * sum(name in lowered for name in named)
        telling += max(0.0, 1.0 - position / 6)  # what a call is about is said early
        candidates.append(_Candidate(position, line, words, telling))
    return _joined(_chosen(candidates))


def _chosen(candidates: list[_Candidate]) -> list[_Candidate]:
    chosen: list[_Candidate] = []
    for candidate in sorted(candidates, key=lambda one: -one.score):
        repeats = any(len(candidate.words & one.words) > 0.6 * len(candidate.words) for one in chosen)
        if not repeats:
            chosen.append(candidate)
        if len(chosen) == _MOST_SENTENCES:
            break
    return sorted(chosen, key=lambda one: one.position)


def _joined(chosen: list[_Candidate]) -> str:
    text = " ".join(
        one.text[:1].upper() + one.text[1:] + ("" if one.text[-1] in ".?!…" else ".") for one in chosen
    )
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1].rsplit(" ", 1)[0] + "…"
