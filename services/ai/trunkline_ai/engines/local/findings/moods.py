"""The sentiment of each side, and of the customer in each third of the conversation."""

from trunkline_ai.engines.base import SpeakerRole
from trunkline_ai.engines.findings import MoodPart, Side, SideMood
from trunkline_ai.engines.local.findings.speech import Sentence, SpokenSentences
from trunkline_ai.engines.local.sentiment import SentimentRules, SentimentVerdict

_PARTS = 3


class MoodRules:
    """Judges parts by the rules that the whole's model weighs."""

    def __init__(self, sentiment: SentimentRules) -> None:
        self._sentiment = sentiment

    def sides(self, speech: SpokenSentences, customer: SentimentVerdict) -> tuple[SideMood, ...]:
        """Of the sides that are told apart; the customer's is the conversation's."""
        turns = speech.script.transcript.turns
        moods: list[SideMood] = []
        agent = [one for one in speech.sentences if one.side is Side.AGENT]
        if agent:
            mood = self._judge(speech, agent)
            moods.append(SideMood(Side.AGENT, mood.label, mood.score))
        if any(turn.role is SpeakerRole.CUSTOMER for turn in turns):
            moods.append(SideMood(Side.CUSTOMER, customer.label, customer.score))
        return tuple(moods)

    def parts(self, speech: SpokenSentences) -> tuple[MoodPart, ...]:
        """Thirds of what was said, cut between sentences; one part if the customer said less than three."""
        said = speech.sentences
        if not said:
            return ()
        count = _PARTS if len(speech.by(Side.CUSTOMER)) >= _PARTS else 1
        size = (said[-1].end - said[0].start) / count
        parts: list[list[Sentence]] = [[] for _ in range(count)]
        for one in said:
            middle = (one.start + one.end) / 2 - said[0].start
            parts[min(count - 1, int(middle / size))].append(one)
        return tuple(self._part(speech, part) for part in parts if part)

    def _part(self, speech: SpokenSentences, part: list[Sentence]) -> MoodPart:
        span = speech.script.silent(part[0].start, part[-1].end)
        customer = [one for one in part if one.side is not Side.AGENT]
        if not customer:
            return MoodPart(span, None)
        mood = self._judge(speech, customer)
        return MoodPart(span, mood.label, mood.score)

    def _judge(self, speech: SpokenSentences, sentences: list[Sentence]) -> SentimentVerdict:
        text = speech.script.text
        return self._sentiment.felt(
            [text[one.start : one.end] for one in sentences], speech.said, {one.number for one in sentences}
        )
