"""Finding what was named: people, telephone numbers, times, amounts, addresses and e-mail addresses."""

import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from trunkline_words import numbers
from trunkline_words.calendar import MONTHS, ORDINALS, SHORT_MONTHS
from trunkline_words.patterns import WordPatterns, found_with
from trunkline_words.personal import patterns
from trunkline_words.personal.policy import PLACEHOLDER, PiiKind, kind_of
from trunkline_words.written import Written, straightened

from trunkline_ai.engines.base import Entity, Transcript
from trunkline_ai.engines.labels import EntityType

_DAYS = "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH = rf"(?:{numbers.one_of(MONTHS)}|{numbers.one_of(SHORT_MONTHS)}\.?)"
_TENS = rf"twenty[\s-]{numbers.one_of(ORDINALS[:9])}|thirty[\s-]first"
_ORDINAL = rf"(?:\d{{1,2}}(?:st|nd|rd|th)|{_TENS}|{numbers.one_of(ORDINALS)})"
_HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_HOUR = numbers.one_of(_HOURS)
_MINUTE = r"(?:fifteen|thirty|forty[\s-]?five|oh[\s-]five|ten|twenty|forty|fifty|o'?clock)"
_HALF = r"(?:a\.?\s?m\.?|p\.?\s?m\.?)(?![a-z])"
_CLOCK = (
    rf"(?:\d{{1,2}}:\d{{2}}(?:\s?{_HALF})?|\d{{1,2}}\s?(?:{_HALF}|o'?clock)|"
    rf"{_HOUR}\s(?:{_MINUTE}(?:\s{_HALF})?|{_HALF})|"
    rf"(?:{_HOUR}|\d{{1,2}})\sin\sthe\s(?:morning|afternoon|evening)|noon|midnight)"
)
_NO_COUNT = rf"(?!\s++(?:hundred|thousand|dollars?|bucks|{numbers.NUMBER_WORD}))"
_BARE_CLOCK = rf"(?:{_CLOCK}|{_HOUR}{_NO_COUNT}|\d{{1,2}}(?![\d:]))"
_PART = "(?:morning|afternoon|evening|night)"
_DAY = (
    rf"(?:(?:next|this|last|every)\s++)?{_DAYS}s?(?:\s++{_PART})?(?:,?\s++the\s++{_ORDINAL})?|"
    rf"(?:day after tomorrow|tomorrow(?:\s++{_PART})?|today|tonight|(?:this|yesterday)\s++{_PART}|yesterday|"
    r"(?:next|this)\s++(?:week|month|weekend))|"
    rf"{_MONTH}\s++(?:the\s++)?(?:{_ORDINAL}|\d{{1,2}})(?!\d)|"
    rf"the\s++(?:{_ORDINAL}\s++of\s++{_MONTH}|(?!first|second|third){_ORDINAL}(?!\s++(?:floor|page|time|one)))|\d{{1,2}}/\d{{1,2}}(?:/\d{{2,4}})?"
)
_TIME = re.compile(
    # How all that follows begins: other words and figures are passed over at once.
    r"\b(?=\d{1,2}(?::\d\d|/\d|\s?[apo]|\sin)|a[prfu]|at\s++[\dotfsnem]|b[ey]|d[ae]|e[ilv]|f[eior]|j[au]|la|m[aio]|n[eio]|o(?:c|ne\s(?:[fo]|t[ehw]|in|[ap]\.?\s?m))|s[aeiu]|"
    r"t(?:[eouw]|h(?:[iru]|e\s++(?:\d|f[io]|s[ei]|thi|t[ew]|e[il]|ni)))|we|ye)"
    rf"(?:(?:{_DAY})(?:,?\s++(?:at|around|by|after|before)\s++{_BARE_CLOCK})?|"
    rf"at\s++(?:{_CLOCK}|(?:{_HOUR}|\d{{1,2}})(?=[\s,.?!]*+(?:$|\n|works|is|on|would|tomorrow|today|please)))|"
    rf"(?:around|after|before|by)\s++{_CLOCK}|{_CLOCK})(?!\w)",
    re.IGNORECASE,
)
_PHONE = re.compile(
    r"(?<![\d$])(?:\+?1[\s.-]?)?(?:\(\d{3}\)\s?|\d{3}[\s.-])\d{3}[\s.-]?\d{4}(?!\d)|(?<![\d$])\d{3}[\s.-]\d{4}(?!\d)|"
    r"(?<![\d$+])\+?1?\d{10}(?!\d)"
)
_SPOKEN_PHONE = re.compile(
    rf"\b{numbers.DIGIT_WORD}(?:[\s,.-]+{numbers.DIGIT_WORD}){{6,10}}\b", re.IGNORECASE
)
# A pattern over what was said is linear: what repeats takes all it can at once (`++`) and begins only where a run of
# it begins, so that `1,1,1,...` or `a.a.a...` is read once and not once from each of its characters.
_FIGURE = r"\d++(?:,\d++)*+(?:\.\d{1,2})?"
_UNIT = r"\s(?:dollars?|bucks)\b"
_AMOUNT = re.compile(
    rf"(?P<entity>\$\s?{_FIGURE}(?:\s?(?:k\b|thousand|million))?|(?<!\d)(?<!\d,)\b{_FIGURE}{_UNIT}|"
    rf"\b{numbers.NUMBER}{_UNIT})"
    rf"|\b{numbers.NUMBER}",  # any other number is taken too: it need not be read from each of its words
    re.IGNORECASE,
)
_BY_WORDS = WordPatterns(_SPOKEN_PHONE, _TIME)
_LETTER = re.compile("[a-z]", re.IGNORECASE)
_NO_DIGIT = re.compile(r"\D")
_PLAIN_AMOUNT = re.compile(r"\d[\d,]*+(?:\.\d++)?")
_THOUSANDS = re.compile(r"\d\s?(?:k\b|thousand)", re.IGNORECASE)
_DIGITAL_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
_BARE_HOUR = re.compile(rf"\b(\d{{1,2}})()\s?(?:{_HALF}|o'?clock|in the)")
_LAST_HOUR = re.compile(r"\b(?:at|around|by|after|before)\s++(\d{1,2})()$")
_SPOKEN_CLOCK = re.compile(rf"\b({_HOUR})(?:\s({_MINUTE}))?\b")
_AFTERNOON = re.compile(r"\bp\.?\s?m|\dp\.?m|in the (?:afternoon|evening)")
_PLACEHOLDER = re.compile(PLACEHOLDER)
_NAMED_BY = {
    PiiKind.EMAIL: EntityType.EMAIL,
    PiiKind.PHONE: EntityType.PHONE_NUMBER,
    PiiKind.ADDRESS: EntityType.ADDRESS,
    PiiKind.NAME: EntityType.PERSON,
}
_MOST_ENTITIES = 500


def find_entities(transcript: Transcript) -> tuple[Entity, ...]:
    """Entities in order of place; overlapping finds keep the first of the more telling kind."""
    found: list[Entity] = []
    offset = 0
    for turn in transcript.turns:
        # A mark a character, so that a turn of many finds costs no more than its length.
        taken = bytearray(len(turn.text))
        for one in _in_turn(turn.text, Written(straightened(turn.text))):
            if not any(taken[one.start : one.end]):
                taken[one.start : one.end] = b"\1" * (one.end - one.start)
                found.append(replace(one, start=one.start + offset, end=one.end + offset))
        offset += len(turn.text) + 1
    return tuple(sorted(found, key=lambda entity: entity.start)[:_MOST_ENTITIES])


def _in_turn(said: str, text: Written) -> Iterator[Entity]:
    """The finds in `text`, in the wording of `said`, which is of the same length; the more telling kinds first."""
    yield from _placeholders(said)
    spoken_phones, times = _BY_WORDS.find(text)
    yield from _as_entities(EntityType.EMAIL, patterns.emails(said, text))
    yield from _matched(EntityType.PHONE_NUMBER, found_with(_PHONE, text, *string.digits), said, _phone_value)
    yield from _matched(EntityType.PHONE_NUMBER, spoken_phones, said, _phone_value)
    amounts = found_with(_AMOUNT, text, "$", "dollar", "buck")
    yield from _matched(EntityType.AMOUNT, amounts, said, _amount_value)
    yield from _as_entities(EntityType.ADDRESS, patterns.addresses(said, text))
    yield from _matched(EntityType.TIME, times, said, _time_value)
    yield from _as_entities(EntityType.PERSON, patterns.people(said, text))


def _placeholders(said: str) -> Iterator[Entity]:
    """What was named and isn't told: the placeholder is its own normal form."""
    for found in _PLACEHOLDER.finditer(said) if "[" in said else ():
        if kind := _NAMED_BY.get(kind_of(found.group())):
            yield Entity(kind, found.group(), found.group(), *found.span())


def _as_entities(kind: EntityType, named: Iterable[patterns.Named]) -> Iterator[Entity]:
    for one in named:
        yield Entity(kind, one.text, one.value, one.start, one.end)


def _matched(
    kind: EntityType, matches: Iterable[re.Match[str]], said: str, normalise: Callable[[str], str]
) -> Iterator[Entity]:
    for match in matches:
        start, end = match.span("entity" if "entity" in match.re.groupindex else 0)
        if start >= 0:  # otherwise it is what the pattern passes over
            yield Entity(kind, said[start:end], normalise(match.string[start:end]), start, end)


def _phone_value(text: str) -> str:
    found = numbers.digits(text) if _LETTER.search(text) else _NO_DIGIT.sub("", text)
    if len(found) == 10:
        return f"+1{found}"
    return f"+{found}" if len(found) == 11 and found.startswith("1") else found


def _amount_value(text: str) -> str:
    plain = _PLAIN_AMOUNT.search(text)
    if plain is None:
        return f"{numbers.value(text):.2f}"
    scale = 1
    if _THOUSANDS.search(text):
        scale = 1_000
    elif "million" in text.lower():
        scale = 1_000_000
    return f"{float(plain.group().replace(',', '')) * scale:.2f}"


def _time_value(text: str) -> str:
    """`HH:MM` when a clock time was said (as said: 12 hours unless a.m. or p.m. is told); else empty."""
    lowered = text.lower()
    if "noon" in lowered.split():
        return "12:00"
    clock = _DIGITAL_CLOCK.search(lowered) or _BARE_HOUR.search(lowered) or _LAST_HOUR.search(lowered)
    if clock and "/" not in lowered:
        hour, minute = int(clock[1]), int(clock[2] or 0)
    else:
        spoken = _SPOKEN_CLOCK.search(lowered)
        if spoken is None:
            return ""
        hour = numbers.value(spoken[1])
        minute = numbers.value((spoken[2] or "").replace("fortyfive", "forty five"))
    if _AFTERNOON.search(lowered) and hour < 12:
        hour += 12
    return f"{hour:02d}:{minute:02d}" if hour < 24 and minute < 60 else ""
