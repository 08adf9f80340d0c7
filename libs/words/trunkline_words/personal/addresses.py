"""Street addresses, written and spoken, with the unit before or behind, the town, the state, and the postcode."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline_words import numbers
from trunkline_words.calendar import ORDINALS
from trunkline_words.personal.numbers import Digits, runs_of
from trunkline_words.personal.patterns import COUNTED, NO_NAMES
from trunkline_words.personal.speech import ORDINARY, Speech, word_lists

_WORDS = word_lists("addresses")
_STREETS = _WORDS["streets"]
_BEFORE = frozenset(
    ["calle", "avenida", "camino", "paseo", "via", "rue", "route", "highway", "hwy", "interstate"]
)
_COUNTY = frozenset(["county", "state", "country", "farm", "rural"])
_SIDES = _WORDS["sides"]
_UNITS = _WORDS["units"]
_STATES = _WORDS["states"]
_TWO_WORD_STATES = frozenset({"new", "north", "south", "west", "rhode"})
_SECOND = frozenset(["hampshire", "jersey", "mexico", "york", "carolina", "dakota", "virginia", "island"])
_CODES = _WORDS["codes"]
_COUNTED = frozenset((*COUNTED, *(f"{word}s" for word in COUNTED)))
_NOT_OF_A_STREET = (_COUNTED | frozenset(NO_NAMES)) - {"the", "a"}
_ASKING = frozenset({"address", "where", "where's", "street", "location", "located", "deliver"})
_TELLING = _WORDS["telling"]
_NO_STREET = _WORDS["no_street"]
_SHORT = frozenset({"jr", "sr", "dr", "st", "mt", "ft", "n", "s", "e", "w"})
_ASKED_WORDS = 12
_TOLD_WORDS = 5
_MOST_NAME = 4
_MOST_HOUSE = 5


def find_addresses(speech: Speech) -> Iterator[tuple[int, int]]:
    """Give the first word of each and the index behind its last word."""
    behind = 0
    runs = _with_lettered(speech, runs_of(speech))
    starts = {run[0].index: run for run in runs}
    zips = _postcodes(speech, runs)
    asked = _asked(speech)
    for run in runs:
        for at, one in enumerate(run):
            if one.index < behind:
                continue
            house = _house(run, at)
            if house < 0:
                continue
            core = house if _box(speech, one.index) else _street(speech, house)
            if core < 0:
                core = _bare(speech, asked, one.index, house)
            if core < 0:
                continue
            end = _Behind(speech, starts, zips).extended(core)
            first = _before(speech, one.index)
            yield first, end
            behind = end
            break


def _with_lettered(speech: Speech, runs: list[list[Digits]]) -> list[list[Digits]]:
    """Return the runs, and house numbers with a letter behind the figures: 12B."""
    lettered = [
        [Digits(index, word.text[:-1])]
        for index, word in enumerate(speech.words)
        if word.text[:1].isdigit() and word.text[:-1].isdecimal() and word.text[-1] in "abcdefgh"
    ]
    return sorted([*runs, *lettered], key=lambda run: run[0].index) if lettered else runs


def _house(run: list[Digits], at: int) -> int:
    """Return the index behind a house number that goes from a word of a run to its end; -1 where it is none."""
    if len(run) - at > _MOST_HOUSE:
        return -1
    told = "".join(one.digits for one in run[at:])
    tied = all(after.index - one.index <= 2 for one, after in zip(run[at:], run[at + 1 :], strict=False))
    return run[-1].index + 1 if 1 <= len(told) <= _MOST_HOUSE and tied else -1


def _box(speech: Speech, index: int) -> bool:
    """Tell whether a number is that of a post office box."""
    behind = [speech.text(i) for i in range(max(0, index - 5), index) if speech.text(i) != "."]
    return behind[-2:] == ["po", "box"] or behind[-3:] == ["p", "o", "box"]


def _street(speech: Speech, index: int) -> int:
    """Return the index behind a street's name and kind that begins at a word; -1 where none does."""
    first = index
    end = min(speech.end_of_turn(index - 1), index + _MOST_NAME + 4)
    if index < end and speech.words[index].text == ",":
        index += 1
    if index < end and len(speech.words[index].text) == 1 and speech.touches(index - 1):
        index += 1  # 12B
    while index < end and (
        speech.words[index].text in _SIDES or (speech.words[index].text == "." and index > first)
    ):
        index += 1
    text = speech.text(index) if index < end else ""
    if text in _COUNTY and speech.text(index + 1) in ("road", "route", "highway"):
        return _number(speech, index + 2)
    if text in ("highway", "hwy", "route"):
        return _number(speech, index + 1)
    if text in _BEFORE and index + 1 < end and not speech.words[index + 1].marks:
        index += 2
        while index < end and speech.words[index].capital and not speech.words[index].marks:
            index += 1
        return index
    if text == "st" and speech.text(index + 1) == ".":
        index += 2
    if text == "and" and speech.text(index + 1) in ("a", "one") and speech.text(index + 2) == "half":
        index += 3
    if (
        text in ("avenue", "ave", "street", "road")
        and len(speech.text(index + 1)) == 1
        and speech.words[index + 1].capital
    ):
        return index + 2  # `4412 Avenue K`
    names = 0
    for at in range(index, min(end, index + 2 * _MOST_NAME)):
        word = speech.words[at]
        if word.text == "." and speech.text(at - 1) in _SHORT:
            continue
        names += 1
        if names > _MOST_NAME + 1:
            return -1
        if word.text in _STREETS and at > index:
            more = at + 1
            # `oak ridge drive`: the last of several kinds ends it.
            while more < end and speech.words[more].text in _STREETS:
                more += 1
            return more
        if word.text in _STREETS and at == index and (speech.text(at + 1) in _STREETS):
            continue
        if at > index and word.text in _UNITS and speech.text(at + 1)[:1].isalnum():
            numbered = speech.text(at + 1)
            if numbered[0].isdigit() or numbered in numbers.NUMBER_WORDS:
                return at  # `seventy one east main apartment four`
        if word.marks and word.text not in ("-", "'"):
            return -1
        if word.text in ("uh", "um"):
            continue
        if word.text in _NOT_OF_A_STREET or (word.text.isdigit() and at > index):
            return -1
        if word.text in numbers.NUMBER_WORDS and at > index:
            return -1
    return -1


def _asked(speech: Speech) -> frozenset[int]:
    """Return the turns that come behind a question for an address."""
    turns = set()
    for turn in range(1, len(speech.turns)):
        end = speech.firsts[turn]
        said = {speech.text(i) for i in range(max(speech.firsts[turn - 1], end - _ASKED_WORDS), end)}
        if said & _ASKING:
            turns.add(turn)
    return frozenset(turns)


def _bare(speech: Speech, asked: frozenset[int], first: int, index: int) -> int:
    """Return the index behind a street without its kind, where an address is told: `my address is 1120 Rosemont`."""
    begin = speech.firsts[speech.words[first].turn]
    before = [speech.text(i) for i in range(max(begin, first - _TOLD_WORDS), first)]
    answers = speech.words[first].turn in asked and first - begin <= 4
    told = bool(_TELLING & set(before)) or before[-1:] in (["at"], ["to"])
    if not (answers or told) or not speech.same_turn(first, index):
        return -1
    raw = speech.raw[speech.words[first].turn]
    end = index
    while end < index + 3 and speech.same_turn(first, end):
        word = speech.words[end]
        street = (
            word.text.isalpha()
            and word.text not in _NOT_OF_A_STREET
            and word.text not in numbers.NUMBER_WORDS
        )
        if not (street or word.text[:-2].isdigit() or word.text in _SIDES) or not (
            raw or word.capital or word.text[0].isdigit()
        ):
            break
        end += 1
    if (
        end == index
        or all(speech.text(i) in _SIDES for i in range(index, end))
        or speech.text(index) in _NO_STREET
    ):
        return -1
    if raw and not answers and not ({"address", "live", "lives"} & set(before)):
        return -1
    if before[-1:] == ["to"] and not (speech.text(end) == "," and not raw):
        return -1
    return end


def _number(speech: Speech, index: int) -> int:
    """Return the index behind a number of a road; -1 where there is none."""
    end = index
    while (
        end < len(speech.words)
        and speech.same_turn(index - 1, end)
        and (speech.words[end].text.isdigit() or speech.words[end].text in numbers.NUMBER_WORDS)
    ):
        end += 1
    return end if end > index else -1


def _before(speech: Speech, index: int) -> int:
    """Return where an address begins whose house number is at a word: `unit 5 at 660 Prospect Street`."""
    begin = speech.firsts[speech.words[index].turn]
    if _box(speech, index):
        at = index - 1
        while at > begin and speech.words[at].text not in ("p", "po"):
            at -= 1
        return at
    at = index - 1
    if at - 2 >= begin and speech.text(at) in ("at", ",", "of") and speech.text(at - 2) in _UNITS:
        return at - 2
    return index


def _postcodes(speech: Speech, runs: list[list[Digits]]) -> dict[int, int]:
    """Return by its first word the index behind each five-digit number, and behind the four digits that may follow."""
    found = {}
    for run in runs:
        count = 0
        for at, one in enumerate(run):
            count += len(one.digits)
            if count == 5:
                tail = [len(two.digits) for two in run[at + 1 :]]
                dashed = speech.text(one.index + 1) in ("-", "dash")
                whole = sum(tail) == 4 and dashed
                if not tail or whole or speech.text(one.index + 1) in (".", ","):
                    found[run[0].index] = run[-1].index + 1 if whole else one.index + 1
            if count >= 5:
                break
    return found


class _Behind:
    """What stands behind a street."""

    def __init__(self, speech: Speech, runs: dict[int, list[Digits]], zips: dict[int, int]) -> None:
        self._speech = speech
        self._runs = runs
        self._zips = zips

    def extended(self, end: int) -> int:
        """Return the index behind all that is of the address whose street ends before `end`."""
        while True:
            more = self._more(end)
            if more <= end:
                return end
            end = more

    def _more(self, end: int) -> int:
        speech = self._speech
        if not speech.same_turn(end - 1, end):
            return end
        at = end
        comma = speech.text(at) == ","
        if (
            speech.text(at) == "."
            and (speech.text(at - 1) in _STREETS or speech.text(at - 1) in _SIDES)
            and speech.text(at + 1) in (*_UNITS, ",")
        ):
            at += 1
            comma = speech.text(at) == ","
        at += comma
        if speech.text(at) == "." and self._town_alone(at + 1):
            at, comma = at + 1, True
        if not speech.same_turn(end - 1, at):
            return end
        for part in (self._side, self._unit, self._region, self._town):
            more = part(at, comma=comma)
            if more > at:
                return more
        return end

    def _town_alone(self, at: int) -> bool:
        """Tell whether words with capitals stand up to a mark and a state, or up to the end of the turn."""
        speech = self._speech
        end = at
        while (
            end < at + 3
            and speech.same_turn(at - 1, end)
            and speech.words[end].capital
            and speech.text(end) not in ORDINARY
        ):
            end += 1
        behind = end + (speech.text(end) in (".", ",") and speech.same_turn(at - 1, end))
        return end > at and (
            not speech.same_turn(at - 1, behind) or self._state(behind) > behind or behind in self._zips
        )

    def _side(self, at: int, *, comma: bool) -> int:
        raw = self._speech.raw[self._speech.words[at].turn]
        text = self._speech.text(at)
        if text in _SIDES and (len(text) > 2 or raw or self._speech.words[at].said.isupper()):
            return at if text in ("s", "e", "w", "n") and raw else at + 1
        return at

    def _unit(self, at: int, *, comma: bool) -> int:
        speech = self._speech
        if speech.text(at + 1) in ("floor", "story") and (
            speech.text(at)[:-2].isdigit() or speech.text(at) in ORDINALS
        ):
            return at + 2
        if speech.text(at) not in _UNITS and speech.text(at) != "number":
            return at
        named = at + 1
        if speech.text(named) in ("number", "#", "."):
            named += 1
        run = self._runs.get(named)
        if run is not None and speech.same_turn(at, named):
            count, last = 0, named
            for one in run:
                count += len(one.digits)
                if count > 4 or one.index > last + 2:
                    break
                last = one.index
            behind = last + 1
            if (
                speech.same_turn(last, behind)
                and speech.touches(last)
                and speech.words[behind].text.isalpha()
            ) or (
                speech.same_turn(last, behind)
                and len(speech.text(behind)) == 1
                and speech.text(behind) in "bcdefgh"
            ):
                behind += 1
            return behind
        text = speech.text(named)
        if (
            speech.same_turn(at, named)
            and (len(text) == 1 or any(c.isdigit() for c in text))
            and text[0].isalnum()
        ):
            dashed = (
                speech.text(named + 1) == "-" and speech.text(named + 2).isdigit() and speech.touches(named)
            )
            return named + 3 if dashed else named + 1
        return at

    def _region(self, at: int, *, comma: bool) -> int:
        """A state, a postcode."""
        speech = self._speech
        text = speech.text(at)
        if text in ("zip", "zipcode"):
            behind = at + 1 + (speech.text(at + 1) == "code") + (speech.text(at + 1) == "is")
            return self._zips.get(behind, at)
        if at in self._zips:
            return self._zips[at]
        return self._state(at)

    def _state(self, at: int) -> int:
        speech = self._speech
        text = speech.text(at)
        if text in _TWO_WORD_STATES and speech.text(at + 1) in _SECOND:
            return at + 2
        if text in _STATES:
            return at + 1
        if text in _CODES and at < len(speech.words) and speech.words[at].said.isupper():
            return at + 1
        return at

    def _town(self, at: int, *, comma: bool) -> int:
        speech = self._speech
        turn = speech.words[at].turn
        inside = speech.text(at) == "in"
        first = at + inside
        if not speech.same_turn(at, first):
            return at
        if speech.raw[turn]:
            return self._raw_town(at, first, inside=inside)
        end = first
        while (
            end < first + 3
            and speech.same_turn(at, end)
            and speech.words[end].capital
            and self._state(end) == end
        ):
            end += 1
        if end == first:
            return at
        beyond = end + (speech.text(end) == ",")
        known = speech.same_turn(at, beyond) and (self._state(beyond) > beyond or beyond in self._zips)
        return end if comma or inside or known else at

    def _raw_town(self, at: int, first: int, *, inside: bool) -> int:
        """Without capitals: words up to a state or a postcode, or words that are no ordinary ones."""
        speech = self._speech
        for end in range(first + 1, first + 4):
            if not speech.same_turn(at, end):
                break
            if self._state(end) > end or (end in self._zips and not inside):
                return end
        end = first
        last = speech.end_of_turn(at)
        while (
            end < min(first + 3, last)
            and speech.words[end].text.isalpha()
            and speech.text(end) not in _NOT_OF_A_STREET
        ):
            end += 1
        strange = end > first and speech.text(end - 1) not in ORDINARY
        if end == last and end > first and (strange or (inside and end - first <= 2)):
            return end
        end = first
        while (
            end < first + 2
            and speech.same_turn(at, end)
            and speech.text(end).isalpha()
            and speech.text(end) not in ORDINARY
        ):
            end += 1
        return end if end > first and inside else at
