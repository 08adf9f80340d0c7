"""What a model's answer is held to beyond its schema: a conversation may have told it what to answer.

Kept is what the conversation bears out. What can't be told from the conversation is written in docs/decisions/0103.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from trunkline_runtime.language_tags import may_be_english
from trunkline_words import numbers

from trunkline_ai.engines.base import Context
from trunkline_ai.engines.findings import Quote, Reason, Side
from trunkline_ai.engines.labels import EntityType, Intent, LeadLevel
from trunkline_ai.engines.local.entities import find_entities
from trunkline_ai.engines.local.text import sentence_spans
from trunkline_ai.engines.quotes import Script, words_of

_MOST_QUOTE = 2_000
_MOST_TEXT = 1_000
_MOST_ITEM = 300
_MOST_REASONS = 20
_MOST_VALUE = 100
_LEVELS = ((70, LeadLevel.HIGH), (40, LeadLevel.MEDIUM), (15, LeadLevel.LOW))
_NO_BUSINESS = frozenset({
    Intent.SALES_PITCH, Intent.ROBOCALL, Intent.WRONG_NUMBER, Intent.NO_CONVERSATION, Intent.EMPLOYMENT,
})  # fmt: skip
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]+"
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}+@[\w.-]{1,190}\w")
_LINK = re.compile(
    r"https?:|www\.|(?<![a-z0-9-])[a-z0-9-]{1,63}+\.(?:com|net|org|edu|gov|io|co|us|uk|de|info|biz|me|ly|app|xyz|site|online|shop|top|"
    r"link|click|example|test)\b",
    re.IGNORECASE,
)
_PHONE = re.compile(r"\+?\d[\d\s().-]{5,24}\d")
_AMOUNT = re.compile(
    r"[$€£]\s?(\d[\d,]{0,15}(?:\.\d{1,2})?)|(?<![\d,])(\d[\d,]{0,15}+(?:\.\d{1,2})?)\s?(?:dollars?|bucks|usd|euros?|eur|pounds?)\b",
    re.IGNORECASE,
)
_FIGURES = re.compile(r"\d[\d,]*+(?:\.\d{1,2})?")
_SPOKEN = re.compile(rf"\b{numbers.NUMBER}", re.IGNORECASE)
_MOVES_MONEY = re.compile(
    r"\b(pay|wire|transfer|refund|reimburse|remit|credit|deposit|gift\s?card|bitcoin|crypto|zelle|venmo|cash\s?app|iban|"
    r"send\s(?:money|payment|funds|[$€£]))",
    re.IGNORECASE,
)
_LEAK_WORDS = 8
_LEAST_PHONE = 7


class Check:
    """Holds an answer about one conversation to that conversation."""

    def __init__(self, script: Script, context: Context, instructions: str) -> None:
        self._script = script
        self._english = may_be_english(context.language)
        self._instructions = instructions

    def quote(self, said: str) -> Quote | None:
        """The quote where somebody said this, None where nobody did, and for more than anybody would quote."""
        return self._script.find(said) if len(said) <= _MOST_QUOTE else None

    def reasons(self, given: Sequence[Mapping[str, Any]]) -> tuple[Reason, ...]:
        """The reasons whose quotes were said."""
        kept = []
        for one in given[:_MOST_REASONS]:
            quote = self.quote(one["quote"])
            text = self.line(one["text"])
            if quote is not None and text:
                kept.append(Reason(text, one["points"], quote))
        return tuple(kept)

    def lead(
        self, intent: Intent, level: LeadLevel, score: int, reasons: Sequence[Reason], *, spam: bool
    ) -> tuple[LeadLevel, int]:
        """The level and the score, no higher than the points of the reasons, and than each other."""
        if spam or intent in _NO_BUSINESS:
            return LeadLevel.NONE, 0
        score = max(0, min(score, sum(reason.points for reason in reasons)))
        of_score = next((one for least, one in _LEVELS if score >= least), LeadLevel.NONE)
        order = list(LeadLevel)
        if order.index(of_score) <= order.index(level):
            return of_score, score
        above = {LeadLevel.NONE: 15, LeadLevel.LOW: 40, LeadLevel.MEDIUM: 70, LeadLevel.HIGH: 101}
        return level, min(score, above[level] - 1)

    def text(self, said: str, *, acts: bool = False) -> str:
        """The sentences that may stand, bounded. `acts`: it tells the business what to do or say."""
        plain = _plain(said, _MOST_TEXT)
        sentences = (plain[start:end] for start, end in sentence_spans(plain))
        return " ".join(one for one in sentences if self._stands(one, acts=acts))

    def line(self, said: str, most: int = _MOST_ITEM) -> str:
        """A line that may stand as a whole, or nothing."""
        plain = _plain(said, most)
        return plain if self._stands(plain, acts=False) else ""

    def items(self, given: Sequence[str], most: int, *, acts: bool = False) -> tuple[str, ...]:
        """The lines that may stand, so many at most."""
        plain = (_plain(one, _MOST_ITEM) for one in given[:most])
        return tuple(one for one in plain if one and self._stands(one, acts=acts))

    def value(self, kind: EntityType, text: str, value: str) -> str:
        """An entity's normal form, unless it is plainly that of something else."""
        plain = _plain(value, _MOST_VALUE)
        if kind is EntityType.PHONE_NUMBER:
            figures = _figures_of(plain)
            said = numbers.digits(text)
            return plain if figures[-_LEAST_PHONE:] and said.endswith(figures[-_LEAST_PHONE:]) else ""
        if kind is EntityType.EMAIL:
            return plain if plain.casefold() in (text.casefold(), *self._emails) else ""
        return "" if _LINK.search(plain) else plain

    def _stands(self, sentence: str, *, acts: bool) -> bool:
        without_emails = _EMAIL.sub(" ", sentence)
        if _LINK.search(without_emails) or self._leaks(sentence):
            return False
        if any(found.casefold() not in self._emails for found in _EMAIL.findall(sentence)):
            return False
        amounts = [_value(found[0] or found[1]) for found in _AMOUNT.findall(without_emails)]
        if self._english and not self._amounts.issuperset(amounts):
            return False
        phones = (_figures_of(found) for found in _PHONE.findall(_AMOUNT.sub(" ", without_emails)))
        if any(len(one) >= _LEAST_PHONE and one[-_LEAST_PHONE:] not in self._digits for one in phones):
            return False
        return not acts or self._may_pay(sentence, amounts)

    def _may_pay(self, sentence: str, amounts: Sequence[float]) -> bool:
        """Whether the business itself spoke of the money that is to move."""
        moved = {" ".join(found.casefold().split()) for found in _MOVES_MONEY.findall(sentence)}
        if not moved:
            return True
        if not any(one in self._said_by_agent for one in moved):
            return False
        return all(value in self._amounts_of_agent for value in amounts) if self._english else True

    def _leaks(self, sentence: str) -> bool:
        """Whether it repeats the instructions."""
        words = [word.text for word in words_of(sentence)]
        runs = (tuple(words[at : at + _LEAK_WORDS]) for at in range(len(words) - _LEAK_WORDS + 1))
        return any(run in self._instructed for run in runs)

    @cached_property
    def _instructed(self) -> frozenset[tuple[str, ...]]:
        words = [word.text for word in words_of(self._instructions)]
        return frozenset(tuple(words[at : at + _LEAK_WORDS]) for at in range(len(words) - _LEAK_WORDS + 1))

    @cached_property
    def _emails(self) -> frozenset[str]:
        said = {found.casefold() for found in _EMAIL.findall(self._script.text)}
        return frozenset(said | {one.value for one in self._named if one.type is EntityType.EMAIL})

    @cached_property
    def _digits(self) -> str:
        said = numbers.digits(self._script.text)
        return " ".join([said, *(one.value for one in self._named if one.type is EntityType.PHONE_NUMBER)])

    @cached_property
    def _amounts(self) -> frozenset[float]:
        return frozenset(
            {float(one.value) for one in self._named if one.type is EntityType.AMOUNT}
            | _values(self._script.text)
        )

    @cached_property
    def _amounts_of_agent(self) -> frozenset[float]:
        return frozenset(_values(self._said_by_agent))

    @cached_property
    def _said_by_agent(self) -> str:
        turns = self._script.transcript.turns
        return "\n".join(turn.text for turn in turns if turn.role.value == Side.AGENT.value).casefold()

    @cached_property
    def _named(self) -> tuple[Any, ...]:
        return find_entities(self._script.transcript)


def _plain(text: str, most: int) -> str:
    return " ".join(_UNSEEN.sub("", text[: 2 * most]).split())[:most].rstrip()


def _figures_of(text: str) -> str:
    return "".join(letter for letter in text if letter.isdigit())


def _value(figures: str) -> float:
    return float(figures.replace(",", ""))


def _values(text: str) -> set[float]:
    """The sums that a text may speak of: all its figures and its numbers in words."""
    written = {_value(found) for found in _FIGURES.findall(text) if len(found) < 20}
    spoken = {float(numbers.value(found.group())) for found in _SPOKEN.finditer(text)}
    return written | spoken
