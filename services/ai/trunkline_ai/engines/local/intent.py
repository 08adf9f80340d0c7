"""Deciding what the customer wanted, from weighted cues and the shape of the conversation."""

from collections.abc import Mapping
from dataclasses import dataclass

from trunkline_ai.engines.base import Context
from trunkline_ai.engines.labels import Intent, Unreliable
from trunkline_ai.engines.local import cues
from trunkline_ai.engines.local.conversation import Conversation

_GREETED_BY_MACHINE = 3.0
_MESSAGE_LEFT = 6.0
_WORD_WEIGHT = 0.45
_MOST_WORDS = 4
_STRAY_WORDS = 8
"""The most words beyond hello that somebody says who does not speak to the business: to a dog, to a car's radio."""
_FEW_WORDS = 2
_EMERGENCIES = cues.words("emergencies")
SPAM = frozenset({Intent.SALES_PITCH, Intent.ROBOCALL})


@dataclass(frozen=True)
class IntentVerdict:
    """The intent, how sure (0 to 1), how likely spam is (0 to 1), and why the words cannot be relied on, if so."""

    intent: Intent
    confidence: float
    spam: float
    unreliable: str = ""


class IntentRules:
    """Scores every intent by its cues; the shape of the conversation decides what cues cannot."""

    def __init__(self) -> None:
        self._caller = cues.table("intents.toml", "caller")
        self._agent = cues.table("intents.toml", "agent")
        words = cues.load("intents.toml")["words"]
        self._words = {Intent(name): frozenset(str(of_intent).split()) for name, of_intent in words.items()}

    def readable(
        self, conversation: Conversation, context: Context, scores: Mapping[Intent, float]
    ) -> IntentVerdict | None:
        """The verdict on silence and on words that cannot be relied on, with the reason; None where there is more.

        `scores`: as `scores` gives them.
        """
        spam_like = max(scores[Intent.ROBOCALL], scores[Intent.SALES_PITCH])
        silent = conversation.content_words == 0 and not conversation.foreign
        if silent and max(scores[Intent.WRONG_NUMBER], spam_like) < 3.0:
            return IntentVerdict(Intent.NO_CONVERSATION, 0.9, 0.0, context.unreliable)
        unreliable = context.unreliable or _why_unreadable(conversation)
        return IntentVerdict(Intent.OTHER, 0.5, 0.0, unreliable) if unreliable else None

    def scores(self, conversation: Conversation, context: Context) -> dict[Intent, float]:
        """Every intent's points by cues and by the shape of the conversation."""
        caller = self._caller.scores(conversation.customer)
        agent = self._agent.scores(conversation.agent)
        said = set(conversation.customer.split())
        leaning = {
            intent: _WORD_WEIGHT * min(_MOST_WORDS, len(said & words))
            for intent, words in self._words.items()
        }
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


def chosen(likely: Mapping[str, float], conversation: Conversation, context: Context) -> IntentVerdict:
    """The likeliest intent, of spam or not of it as the sums say; a message that a provider tells of is a voicemail.

    Whoever wrote a word, or said more than a few, spoke. Of a word or two that tell little, nothing is guessed.
    """
    spam = sum(likely[intent] for intent in SPAM)
    spoke = context.message or conversation.content_words > _STRAY_WORDS
    among = [
        intent
        for intent in Intent
        if (intent in SPAM) == (spam >= 0.5) and not (spoke and intent is Intent.NO_CONVERSATION)
    ]
    best = max(among, key=lambda intent: likely[intent])
    if context.voicemail and spam < 0.5:
        best = Intent.VOICEMAIL
        return IntentVerdict(best, 1.0 - spam, spam)
    if conversation.content_words <= _FEW_WORDS and spam < 0.5:
        if conversation.telling and conversation.telling <= _EMERGENCIES:
            return IntentVerdict(Intent.EMERGENCY_SERVICE, 0.7, spam)
        if best is not Intent.NO_CONVERSATION and likely[best] < 0.5:
            best = Intent.OTHER
    return IntentVerdict(best, likely[best], spam)
