"""A transcript as the rules read it: canonical text by speaker, whether anybody really spoke, and in English."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from trunkline_ai.engines.base import SpeakerRole, Transcript
from trunkline_ai.engines.local import cues, language
from trunkline_ai.engines.local.text import Spoken, canonical

_EMPTY_WORDS = cues.words("empty")
_SPANISH = cues.words("spanish")
_ENGLISH_AND_SPANISH = frozenset({"a", "no", "me", "he", "son", "the", "come", "once", "pan", "red", "real"})
_FUNCTION_WORDS = cues.words("function")
_OF_SEVERAL = cues.words("spanish_elsewhere")
"""Of the Spanish words, those that are also Portuguese, Italian, or French."""
_ENGLISH_ELSEWHERE = cues.words("english_elsewhere")
_ENGLISH = (cues.words("english") | cues.of_tables()) - _ENGLISH_ELSEWHERE
_LEAST_WORDS = 5
_LEAST_ENGLISH = 0.2
"""Of the words. The least in the labelled transcripts of five words or more is 0.25."""


@dataclass(frozen=True, slots=True)
class Line:
    """A turn in canonical form."""

    role: SpeakerRole
    text: Spoken


@dataclass(frozen=True)
class Conversation:
    """Canonical turns; speech of an unknown speaker counts as the customer's and the business's."""

    turns: tuple[Line, ...]
    told_foreign: str = ""
    """The language that the transcript says was spoken, unless that is English."""

    @classmethod
    def of(cls, transcript: Transcript, tag: str = "") -> "Conversation":
        """Canonical text of each turn, empty ones left out; `tag` is the language that the transcript tells."""
        spoken = ((turn.role, canonical(turn.text)) for turn in transcript.turns)
        turns = tuple(Line(role, text) for role, text in spoken if text)
        return cls(turns, language.foreign(tag, transcript.text))

    def _of(self, *roles: SpeakerRole) -> Spoken:
        return Spoken("\n".join(turn.text for turn in self.turns if turn.role in roles))

    @cached_property
    def customer(self) -> Spoken:
        """What the customer said, a turn a line."""
        return self._of(SpeakerRole.CUSTOMER, SpeakerRole.UNKNOWN)

    @cached_property
    def agent(self) -> Spoken:
        """What the business said, a turn a line."""
        return self._of(SpeakerRole.AGENT, SpeakerRole.UNKNOWN)

    @cached_property
    def everything(self) -> Spoken:
        """All turns in order, one a line."""
        return self._of(*SpeakerRole)

    @cached_property
    def is_dialogue(self) -> bool:
        """The business answered the customer at least once."""
        roles = [turn.role for turn in self.turns]
        return (
            SpeakerRole.CUSTOMER in roles and SpeakerRole.AGENT in roles[roles.index(SpeakerRole.CUSTOMER) :]
        )

    @cached_property
    def content_words(self) -> int:
        """How many of the customer's words carry content beyond hello and yes."""
        return sum(word not in _EMPTY_WORDS for word in self.customer.split())

    @cached_property
    def telling(self) -> frozenset[str]:
        """Those words."""
        return frozenset(self.customer.split()) - _EMPTY_WORDS

    @property
    def foreign(self) -> str:
        """The language that was spoken, as a BCP 47 tag, where it is not English; empty for English."""
        if self.told_foreign:
            return self.told_foreign
        if self.is_spanish:
            return "es"
        return "und" if self.is_unlike_english else ""

    @cached_property
    def is_spanish(self) -> bool:
        """Most function words of the customer are Spanish."""
        words = [word for word in self.customer.split() if word not in _ENGLISH_AND_SPANISH]
        spanish = [word for word in words if word in _SPANISH]
        return len(spanish) >= max(2, 0.25 * len(words)) and not _OF_SEVERAL.issuperset(spanish)

    @cached_property
    def is_unlike_english(self) -> bool:
        """Hardly a word of the customer is plain English."""
        words = [word for word in self.customer.split() if not word.isdigit()]
        if len(words) < _LEAST_WORDS:
            return False
        return _english(words) < _LEAST_ENGLISH * len(words)

    @cached_property
    def is_babble(self) -> bool:
        """Many function words and next to no content: what a recogniser makes of noise or another language."""
        words = self.customer.split()
        return len(words) >= 8 and sum(word not in _FUNCTION_WORDS for word in words) < 0.12 * len(words)


def _english(words: Sequence[str]) -> float:
    """How many words are plain English; those of other languages too count half."""
    return sum(word in _ENGLISH for word in words) + 0.5 * sum(word in _ENGLISH_ELSEWHERE for word in words)
