"""Numbers in speech that are told digit by digit: payment cards, social security numbers, telephone numbers.

They are read as digits wherever they stand: `4242 4242`, `four two four two`, `four uh two`, and on in the speaker's
next turn when the other one only says `uh-huh` or says the digits after them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import phonenumbers

from trunkline_words import numbers
from trunkline_words.personal.policy import PiiKind
from trunkline_words.personal.speech import Speech, TextPlace, place, word_lists

_WORDS = word_lists("numbers")
FILLERS = _WORDS["fillers"]
BETWEEN = _WORDS["between"] | FILLERS
_TELLING = numbers.NUMBER_WORDS | frozenset(numbers.DIGITS) | {"double", "triple"}
_LEAST_DIGITS = 7
"""Of the shortest number that is looked for."""
_MOST_BETWEEN = 4
LEADS = frozenset({"and", "yes", "yeah", "yep", "it's", "its", "then", "that's", "next"}) | BETWEEN
_SHORT_TURN = 4
_CARD_CUES = _WORDS["card_cues"]
_SSN_CUES = frozenset({"social", "ssn", "social's", "ss#", "itin"})
_PHONE_CUES = _WORDS["phone_cues"]  # fmt: skip
_OTHER_CUES = _WORDS["other_cues"]  # fmt: skip
_MOST_PARTS = 12
_MOST_INTERRUPTION = 9
_NEAR = 30
_AFTER = 10
_CARD_LENGTHS = (16, 15, 14, 19, 18, 17, 13)


@dataclass(frozen=True, slots=True)
class Digits:
    """A word that tells digits: its index, and the digits: two of them for the `four` of `double four`."""

    index: int
    digits: str


@dataclass(frozen=True, slots=True)
class Number:
    """What was found: its kind, its digits (telephone numbers with `+`), and where it is, in one or more turns."""

    kind: PiiKind
    value: str
    places: tuple[TextPlace, ...]


def find_numbers(speech: Speech) -> Iterator[Number]:
    """Give the cards, social security numbers, and telephone numbers, in order of place."""
    runs = runs_of(speech)
    if sum(len(one.digits) for run in runs for one in run) < _LEAST_DIGITS:
        return
    cues = _Cues(speech)
    by_turn: dict[int, list[list[Digits]]] = {}
    for run in runs:
        by_turn.setdefault(speech.words[run[0].index].turn, []).append(run)
    found: set[TextPlace] = set()
    for run in _joined(speech, runs):
        for number in _RunReader(speech, cues, run).read():
            found.update(number.places)
            yield _with_echoes(speech, number, by_turn)
    yield from _interrupted(speech, [run for run in runs if _whole(speech, run) not in found])


def _whole(speech: Speech, run: list[Digits]) -> TextPlace:
    return place(speech, run[0].index, run[-1].index + 1)


def _interrupted(speech: Speech, runs: list[list[Digits]]) -> Iterator[Number]:
    """Give the cards that are told in parts with a few words between them: `4798, hang on, 1200, so, 65432019`."""
    at = 0
    while at < len(runs):
        told, last = "", at
        for last in range(at, min(len(runs), at + _MOST_PARTS)):
            if last > at and runs[last][0].index - runs[last - 1][-1].index > _MOST_INTERRUPTION:
                break
            told += "".join(one.digits for one in runs[last][:20])
            if len(told) > max(_CARD_LENGTHS):
                break
            if last > at and len(told) in _CARD_LENGTHS and _is_card(told) and luhn(told):
                yield Number(PiiKind.CARD, told, tuple(_whole(speech, run) for run in runs[at : last + 1]))
                at = last
                break
        at += 1


def _with_echoes(speech: Speech, number: Number, by_turn: Mapping[int, list[list[Digits]]]) -> Number:
    """Add what the other one said after the speaker, between the turns of a number."""
    own = {one.turn for one in number.places}
    if len(own) < 2:
        return number
    echoes = [
        place(speech, run[0].index, run[-1].index + 1)
        for turn in range(min(own), max(own))
        if turn not in own
        for run in by_turn.get(turn, ())
    ]
    places = sorted((*number.places, *echoes), key=lambda one: (one.turn, one.start))
    return Number(number.kind, number.value, tuple(places))


def runs_of(speech: Speech) -> list[list[Digits]]:
    """Return the runs of words that tell digits, each within a turn."""
    runs: list[list[Digits]] = []
    run: list[Digits] = []
    between = 0
    times = 1
    for index, word in enumerate(speech.words):
        if not run and word.text not in _TELLING and not word.text[0].isdigit():
            times = 1
            continue
        if run and word.turn != speech.words[run[-1].index].turn:
            runs.append(run)
            run, between, times = [], 0, 1
        if word.text in ("double", "triple"):
            times = 2 if word.text == "double" else 3
            continue
        told = _digits(speech, index, run)
        if told:
            # What is written out is not said twice, whatever word a recognizer heard before it.
            run.append(Digits(index, told * times if len(told) == 1 else told))
            between, times = 0, 1
            continue
        times = 1
        between += 1
        if run and (word.text not in BETWEEN or between > _MOST_BETWEEN):
            runs.append(run)
            run = []
    if run:
        runs.append(run)
    return runs


def _digits(speech: Speech, index: int, run: list[Digits]) -> str:
    """Return what a word adds to a run: `twenty` before `seven` is a 2, alone it is 20, `hundred` behind one is 00."""
    text = speech.text(index)
    if text.isdecimal() and text.isascii():
        return text if len(text) <= 24 else ""
    head, _, extension = text.partition("x")
    if extension.isdecimal() and head.isdecimal() and text.isascii():
        return head if len(head) <= 24 else ""
    if text in numbers.DIGITS:
        alone = text in ("o", "oh")
        near = (run and run[-1].index >= index - 2) or speech.text(index + 1) in numbers.DIGITS
        return "" if alone and not near else numbers.DIGITS[text]
    value = numbers.value(text) if text in numbers.NUMBER_WORDS else 0
    if 10 <= value < 20:
        return str(value)
    if 20 <= value < 100:
        follows = speech.text(index + 1) if speech.text(index + 1) != "-" else speech.text(index + 2)
        return (
            str(value // 10)
            if follows in numbers.DIGITS and follows not in ("zero", "o", "oh")
            else str(value)
        )
    behind = bool(run) and run[-1].index == index - 1
    if text == "hundred" and behind:
        return "00"
    return "000" if text == "thousand" and behind else ""


def _joined(speech: Speech, runs: list[list[Digits]]) -> Iterator[list[Digits]]:
    """Put the runs together that go on in the speaker's next turn."""
    waiting: dict[int, list[Digits]] = {}
    made: list[list[Digits]] = []
    for run in runs:
        whole = waiting.pop(run[0].index, None)
        if whole is None:
            whole = []
            made.append(whole)
        whole.extend(run)
        following = _goes_on(speech, run)
        if following >= 0:
            waiting[following] = whole
    yield from made


def _goes_on(speech: Speech, run: list[Digits]) -> int:
    """Return the index of the word with which a run goes on in a later turn; -1 where it does not."""
    last = run[-1].index
    end = speech.end_of_turn(last)
    if any(speech.text(i) not in BETWEEN for i in range(last + 1, min(end, last + 1 + _MOST_BETWEEN + 1))):
        return -1
    turn = speech.words[last].turn
    role = speech.turns[turn].role
    for later in (turn + 1, turn + 2):
        if later >= len(speech.turns):
            return -1
        first, end = speech.firsts[later], speech.firsts[later + 1]
        if speech.turns[later].role == role or later == turn + 2:
            if speech.turns[later].role != role:
                return -1
            begins = _begins(speech, first, end)
            if begins >= 0 or later == turn + 2:
                return begins
        spoken = [i for i in range(first, min(end, first + 60)) if not speech.words[i].marks]
        told = [i for i in spoken if _digits(speech, i, [])]
        if len(spoken) > _SHORT_TURN and len(told) < len(spoken):
            return -1
    return -1


def _begins(speech: Speech, first: int, end: int) -> int:
    for index in range(first, min(end, first + 3)):
        if _digits(speech, index, []):
            return index
        if speech.text(index) not in LEADS:
            return -1
    return -1


class _Cues:
    """Which words near a number tell what it is."""

    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._before = {
            name: speech.last_before(cues)
            for name, cues in (("card", _CARD_CUES), ("ssn", _SSN_CUES), ("phone", _PHONE_CUES), ("other", _OTHER_CUES))
        }  # fmt: skip

    def before(self, name: str, index: int) -> int:
        """Return how many words ago a cue was told; a large number for not at all."""
        at = self._before[name][index]
        return index - at if at >= 0 and index - at <= _NEAR else 1_000

    def card_after(self, index: int) -> bool:
        """Tell whether the words behind a number name a card."""
        return any(self._speech.text(i) in _CARD_CUES for i in range(index + 1, index + 1 + _AFTER))

    def named_after(self, cues: frozenset[str], index: int) -> bool:
        """Tell whether `is my number`, or the like of it, stands behind a word."""
        behind = [self._speech.text(i) for i in range(index + 1, index + 6)]
        return behind[:1] in (["is"], ["that's"], ["as"]) and bool(cues & set(behind))


class _RunReader:
    """Reads one run from left to right."""

    def __init__(self, speech: Speech, cues: _Cues, run: list[Digits]) -> None:
        self._speech = speech
        self._cues = cues
        self._run = run
        self._digits = "".join(one.digits for one in run)
        self._starts: list[int] = []
        at = 0
        for one in run:
            self._starts.append(at)
            at += len(one.digits)
        self._ends = {
            start + len(one.digits): i for i, (start, one) in enumerate(zip(self._starts, run, strict=True))
        }
        """By offset into the digits: the word of the run that ends there."""

    def read(self) -> Iterator[Number]:
        """Give what is in the run."""
        at = 0
        while at < len(self._run) and len(self._digits) - self._starts[at] >= _LEAST_DIGITS:
            found = self._card(at) or self._ssn(at) or self._phone(at)
            if found is None:
                at += 1
                continue
            kind, value, last = found
            yield Number(kind, value, self._places(at, last))
            at = last + 1

    def _places(self, first: int, last: int) -> tuple[TextPlace, ...]:
        """Where the words are, a stretch a turn: with what is between them, and what leads a telephone number."""
        words = self._speech.words
        made: list[TextPlace] = []
        for one in self._run[first : last + 1]:
            word = words[one.index]
            start = word.start
            if made and made[-1].turn == word.turn:
                made[-1] = TextPlace(word.turn, made[-1].start, word.end)
                continue
            lead = one.index - 1
            while self._speech.same_turn(lead, one.index) and (
                words[lead].text in ("+", "(", "plus", "double", "triple")
            ):
                start = words[lead].start
                lead -= 1
            made.append(TextPlace(word.turn, start, word.end))
        return tuple(made)

    def _window(self, at: int, length: int) -> tuple[str, int] | None:
        """Return so many digits from a word on, and the word that they end with, if they end with one."""
        start = self._starts[at]
        last = self._ends.get(start + length)
        return None if last is None else (self._digits[start : start + length], last)

    def _card(self, at: int) -> tuple[PiiKind, str, int] | None:
        for length in _CARD_LENGTHS:
            window = self._window(at, length)
            if window and _is_card(window[0]) and luhn(window[0]):
                return PiiKind.CARD, *window
        # A recogniser that misses one digit breaks the check: what is called a card is one.
        index = self._run[at].index
        card = self._cues.before("card", index)
        told = card < self._cues.before("other", index) or self._cues.card_after(self._run[-1].index)
        if (
            told
            and card > self._cues.before("phone", index)
            and not self._cues.card_after(self._run[-1].index)
        ):
            told = card - self._cues.before("phone", index) < 6  # `card number`
        left = len(self._digits) - self._starts[at]
        if told and self._digits[self._starts[at]] in "23456":
            for length in (16, 15, *range(14, 20)):
                window = self._window(at, length)
                if window and (length == left or length in (15, 16)):
                    return PiiKind.CARD, *window
        return None

    def _ssn(self, at: int) -> tuple[PiiKind, str, int] | None:
        window = self._window(at, 9)
        if window is None:
            return None
        index = self._run[at].index
        cue = self._cues.before("ssn", index)
        if self._cues.named_after(_SSN_CUES, self._run[-1].index):
            cue = 0
        near = cue <= _NEAR
        start, left = self._starts[at], len(self._digits) - self._starts[at]
        grouped = start + 3 in self._ends and start + 5 in self._ends
        if grouped and window[0][:3] not in ("000", "666"):
            first, second = self._ends[start + 3], self._ends[start + 5]
            # Three groups, of which figures are words of their own: `219-09-9999`, `457 55 5462`.
            if second - at == 1 and window[1] - at == 2:
                if near or self._dashed(first, second):
                    return PiiKind.SSN, *window
            elif self._dashed(first, second):
                return PiiKind.SSN, *window
        # Nine digits and no more, or what comes behind them is told apart.
        whole = left == 9 or self._apart(window[1])
        if (
            near
            and whole
            and cue <= self._cues.before("phone", index) + 5
            and cue < self._cues.before("other", index)
        ):
            return PiiKind.SSN, *window
        return None

    def _dashed(self, *ends: int) -> bool:
        return all(
            self._speech.text(self._run[end].index + 1) in ("-", "dash", "hyphen", "–", "‑") for end in ends
        )

    def _apart(self, last: int) -> bool:
        """Tell whether a mark or another turn stands behind a word of the run."""
        if last + 1 >= len(self._run):
            return True
        here, behind = self._run[last].index, self._run[last + 1].index
        if not self._speech.same_turn(here, behind):
            return True
        return any(
            self._speech.text(i) in (",", ".", "…", "/") or self._speech.text(i) in FILLERS
            for i in range(here + 1, behind)
        )

    def _phone(self, at: int) -> tuple[PiiKind, str, int] | None:
        index = self._run[at].index
        lead = self._speech.text(index - 1) if self._speech.same_turn(index - 1, index) else ""
        if lead in ("+", "plus") or (lead == "(" and self._speech.text(index - 2) == "+"):
            found = self._abroad(at)
            if found:
                return found
        return self._northern(at, index) or self._local(at, index) or self._elsewhere(at, index)

    def _abroad(self, at: int) -> tuple[PiiKind, str, int] | None:
        for length in range(15, 6, -1):
            window = self._window(at, length)
            if window and possible(f"+{window[0]}"):
                return PiiKind.PHONE, f"+{window[0]}", window[1]
        return None

    def _northern(self, at: int, index: int) -> tuple[PiiKind, str, int] | None:
        """North America's: ten digits, or a 1 and ten."""
        for length in (11, 10):
            window = self._window(at, length)
            if window is None or not is_northern(window[0][-10:]) or (length == 11 and window[0][0] != "1"):
                continue
            apart = self._starts[at] + length == len(self._digits) or self._apart(window[1])
            rest = len(self._digits) - self._starts[at] - length
            grouped = self._grouped(at, window[1])
            denied = (
                self._cues.before("other", index) < self._cues.before("phone", index)
                and self._cues.before("other", index) < 8
            )
            if (apart or grouped or rest >= 7) and (grouped or not denied):
                return PiiKind.PHONE, f"+1{window[0][-10:]}", window[1]
        return None

    def _grouped(self, at: int, last: int) -> bool:
        """Tell whether it is written in figures in groups of 3, 3, and 4."""
        lengths = [len(one.digits) for one in self._run[at : last + 1]]
        return lengths[-3:] == [3, 3, 4] and lengths[:-3] in ([], [1])

    def _local(self, at: int, index: int) -> tuple[PiiKind, str, int] | None:
        """Seven digits without an area code: where a telephone is spoken of."""
        window = self._window(at, 7)
        if window is None or window[0][0] in "01" or (at > 0 and not self._apart(at - 1)):
            return None
        whole = self._starts[at] + 7 == len(self._digits) or self._apart(window[1])
        phone, other = self._phone_cue(index), self._cues.before("other", index)
        in_figures = [len(one.digits) for one in self._run[at : window[1] + 1]] == [3, 4]
        dashed = in_figures and self._speech.text(index + 1) in ("-", ".")
        told = phone < other or (phone == other == 1_000 and dashed)
        if whole and told and (dashed or phone <= _NEAR):
            if not dashed and not in_figures and len(self._run[at : window[1] + 1]) < 4 and phone > 8:
                return None
            return PiiKind.PHONE, window[0], window[1]
        return None

    def _phone_cue(self, index: int) -> int:
        return (
            0
            if self._cues.named_after(_PHONE_CUES, self._run[-1].index)
            else self._cues.before("phone", index)
        )

    def _elsewhere(self, at: int, index: int) -> tuple[PiiKind, str, int] | None:
        """Numbers of other countries, as they are dialled there: the whole run, right behind a word for telephones."""
        left = len(self._digits) - self._starts[at]
        phone, other = self._phone_cue(index), self._cues.before("other", index)
        zero = self._digits[self._starts[at]] == "0"
        if at == 0 and 9 <= left <= 13 and phone < other and phone <= (14 if zero else 6):
            return PiiKind.PHONE, self._digits, len(self._run) - 1
        return None


def luhn(digits: str) -> bool:
    """Tell whether the check digit of a payment card is right."""
    total = 0
    for number, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if number % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_card(digits: str) -> bool:
    """Tell whether a number begins as one of the card networks' does, at the length that they use."""
    length, two, three, four = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4])
    if len(set(digits)) < 2:
        return False
    return (
        (digits[0] == "4" and length in (13, 16, 19))
        or (length == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))
        or (length == 15 and two in (34, 37))
        or (length in (16, 19) and (four == 6011 or two == 65 or 644 <= three <= 649))
        or (length in (14, 16, 19) and (two in (36, 38, 39) or 300 <= three <= 305))
        or (length in (16, 19) and 3528 <= four <= 3589)
        or (16 <= length <= 19 and two == 62)
    )


def is_northern(digits: str) -> bool:
    """Tell whether ten digits have the form of a number of the North American plan."""
    return digits[0] not in "01" and digits[3] not in "01"


def possible(number: str) -> bool:
    """Tell whether a number with `+` and its country code may exist, by the plans of the world's numbers."""
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return False
