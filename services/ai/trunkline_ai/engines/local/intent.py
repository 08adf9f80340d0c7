"""Deciding what the customer wanted, from weighted cues and the shape of the conversation."""

import math
from dataclasses import dataclass

from trunkline_ai.engines.base import Context
from trunkline_ai.engines.labels import Intent, Unreliable
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.conversation import Conversation
from trunkline_ai.engines.local.model import PhraseModel

_LEAST_SCORE = 1.2
_LEAST_QUESTION = 0.7
_GREETED_BY_MACHINE = 3.0
_MESSAGE_LEFT = 6.0
_WORD_WEIGHT = 0.45
_MOST_WORDS = 4
_MODEL_WEIGHT = 2.8
_SOFTMAX_TEMPERATURE = 1.6
SPAM = frozenset({Intent.SALES_PITCH, Intent.ROBOCALL})


@dataclass(frozen=True)
class IntentVerdict:
    """The intent, how sure (0 to 1), every intent's score, and why the words could not be relied on, if so."""

    intent: Intent
    confidence: float
    scores: dict[Intent, float]
    unreliable: str = ""


class IntentRules:
    """Scores every intent by its cues; the shape of the conversation decides what cues cannot."""

    def __init__(self) -> None:
        tables = cues.load("intents.toml")
        macros = {name: str(value) for name, value in tables["macros"].items()}
        self._caller = cues.CueTable.of(tables["caller"], macros)
        self._agent = cues.CueTable.of(tables["agent"], macros)
        self._model = PhraseModel()
        self._words = {Intent(name): frozenset(str(words).split()) for name, words in tables["words"].items()}

    def decide(self, conversation: Conversation, context: Context) -> IntentVerdict:
        """The intent of a conversation; unreliable input gives `other` or `no_conversation`, with the reason."""
        scores = self._scores(conversation, context)
        spam_like = max(scores[Intent.ROBOCALL], scores[Intent.SALES_PITCH])
        silent = conversation.content_words < 2 and not conversation.foreign
        if silent and max(scores[Intent.WRONG_NUMBER], spam_like) < 3.0:
            return IntentVerdict(Intent.NO_CONVERSATION, 0.9, scores, context.unreliable)
        unreliable = context.unreliable or _why_unreadable(conversation)
        if unreliable:
            return IntentVerdict(Intent.OTHER, 0.5, scores, unreliable)
        best = max(scores, key=lambda intent: scores[intent])
        if scores[best] < _LEAST_SCORE:
            asks = scores[Intent.INFORMATION] >= _LEAST_QUESTION
            return IntentVerdict(Intent.INFORMATION if asks else Intent.OTHER, 0.3, scores)
        return IntentVerdict(best, _confidence(scores, best), scores)

    def _scores(self, conversation: Conversation, context: Context) -> dict[Intent, float]:
        caller = self._caller.scores(conversation.customer)
        agent = self._agent.scores(conversation.agent)
        said = set(conversation.customer.split())
        leaning = {
            intent: _WORD_WEIGHT * min(_MOST_WORDS, len(said & words))
            for intent, words in self._words.items()
        }
        for intent, probability in self._model.lean(conversation.customer).items():
            leaning[intent] = leaning.get(intent, 0.0) + _MODEL_WEIGHT * probability
        scores = {
            intent: caller.get(intent, 0.0) + agent.get(intent, 0.0) + leaning.get(intent, 0.0)
            for intent in Intent
        }
        greeted = agent.get(Intent.VOICEMAIL, 0.0) >= _GREETED_BY_MACHINE
        scores[Intent.VOICEMAIL] = caller[Intent.VOICEMAIL] * (0.4 if conversation.is_dialogue else 1.0)
        spam_like = max(scores[Intent.ROBOCALL], scores[Intent.SALES_PITCH])
        if (greeted or context.voicemail) and spam_like < 4.0:
            scores[Intent.VOICEMAIL] += _MESSAGE_LEFT + max(scores.values()) * 0.5
        elif not conversation.is_dialogue and caller[Intent.VOICEMAIL] >= 2.6:
            scores[Intent.VOICEMAIL] += 1.2
        if caller[Intent.WRONG_NUMBER] < 1.0 and scores[Intent.WRONG_NUMBER] < 4.0:
            # "This is a law firm" alone answers many questions; the caller must show that they meant another.
            scores[Intent.WRONG_NUMBER] = caller[Intent.WRONG_NUMBER]
        return scores


def _why_unreadable(conversation: Conversation) -> str:
    if conversation.foreign:
        return Unreliable.LANGUAGE_NOT_ANALYSED.value
    return Unreliable.NOT_UNDERSTOOD.value if conversation.is_babble else ""


def _confidence(scores: dict[Intent, float], best: Intent) -> float:
    weights = {intent: math.exp(score / _SOFTMAX_TEMPERATURE) for intent, score in scores.items()}
    share = weights[best] / sum(weights.values())
    strength = 1.0 - math.exp(-scores[best] / 2.5)
    return round(share * strength, 3)
