"""How the business's side handled a call: a greeting, a name, a question for the customer's name, a time."""

from trunkline_ai.engines.base import Context, Entity
from trunkline_ai.engines.findings import Mark, Scorecard, Side, Verdict
from trunkline_ai.engines.labels import EntityType
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.findings.speech import Sentence, SpokenSentences, first

_OPENING = 4
"""The agent's first sentences, in which a greeting and a name are given."""


class ScorecardRules:
    """Reads the agent's sentences."""

    def __init__(self, table: cues.CueTable) -> None:
        self._cues = table

    def judge(self, speech: SpokenSentences, context: Context, entities: tuple[Entity, ...]) -> Scorecard:
        """All unknown for a message, a voicemail, and voices that were not told apart."""
        told = [one for one in speech.sentences if one.side is Side.AGENT]
        if context.message or context.voicemail or not told:
            return Scorecard()
        opening = told[:_OPENING]
        return Scorecard(
            greeted=_mark(speech, first(speech, opening, self._cues, "greeted")),
            gave_name=_mark(speech, self._introduction(speech, opening, entities)),
            asked_name=_mark(speech, self._without(speech, told, "asked_name", "no_name")),
            time_offered=_mark(speech, self._without(speech, told, "time_offered", "hours")),
        )

    def _introduction(
        self, speech: SpokenSentences, opening: list[Sentence], entities: tuple[Entity, ...]
    ) -> Sentence | None:
        names = [entity for entity in entities if entity.type is EntityType.PERSON]
        naming = (one for one in opening if any(one.start <= name.start < one.end for name in names))
        return first(speech, naming, self._cues, "introduces")

    def _without(
        self, speech: SpokenSentences, told: list[Sentence], label: str, unless: str
    ) -> Sentence | None:
        barred = speech.scores(self._cues, unless)
        return first(speech, (one for one in told if not barred.get(one.number)), self._cues, label)


def _mark(speech: SpokenSentences, sentence: Sentence | None) -> Mark:
    return Mark(Verdict.YES, speech.quote(sentence)) if sentence else Mark(Verdict.NO)
