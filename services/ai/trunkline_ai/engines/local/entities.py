"""Finding what was named: people, telephone numbers, times, amounts, addresses and e-mail addresses."""

import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import resources

from trunkline_ai.engines.base import Entity, Transcript
from trunkline_ai.engines.labels import EntityType
from trunkline_ai.engines.local import cues, numbers
from trunkline_ai.engines.local.text import Written, straightened

_DAYS = "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
SHORT_MONTHS = ("jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec")
_MONTH = rf"(?:{numbers.one_of(MONTHS)}|{numbers.one_of(SHORT_MONTHS)}\.?)"
ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth", "thirtieth",
)  # fmt: skip
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
_STREET = (
    "(?=[a-dghlprstw][a-z])(?:street|st|avenue|ave|road|rd|drive|dr|lane|ln|court|ct|boulevard|blvd|way|place|pl|circle|"
    "cir|terrace|parkway|pkwy|trail|highway|hwy|loop|square|bend|grove|alley|ridge|crossing|run|point)"
)
_HOUSE = rf"(?:\d{{1,5}}|{numbers.NUMBER})"
# What is counted, and words of a sentence: `15 minutes down the road` is no address.
COUNTED = (
    "year", "month", "week", "day", "hour", "minute", "mile", "block", "yard", "acre", "gallon", "bedroom",
    "bathroom", "room", "dollar", "star", "ton",
)  # fmt: skip
NO_NAMES = (
    "inch", "inches", "feet", "foot", "story", "stories", "people", "kids", "times", "percent", "bucks", "am", "pm",
    "the", "a", "an", "my", "your", "our", "his", "her", "their", "this", "that", "in", "on", "of", "at", "to", "from",
    "for", "by", "with", "and", "or", "is", "are", "was", "were", "down", "up", "away", "off", "per", "more", "other",
    "different",
)  # fmt: skip
_NOT_OF_A_STREET = (
    rf"(?!(?=[a-z]){numbers.one_of([*COUNTED, *(f'{word}s' for word in COUNTED), *NO_NAMES])}\b)"
)
_WORD = rf"{_NOT_OF_A_STREET}[a-z0-9][a-z0-9'-]*+\s++"
_NAMED_STREET = (
    r"(?:(?=[nsew])(?:north|south|east|west|[nsew]\.?)\s++)?(?:st\.\s++)?(?!\d++\s)"
    rf"{_WORD}(?:{_STREET}|{_WORD}(?:{_STREET}|{_WORD}{_STREET}))\b"
)
_ADDRESS = re.compile(
    rf"(?P<entity>\b{_HOUSE},?\s++{_NAMED_STREET})|\b{numbers.NUMBER}(?!\w)",  # as with amounts
    re.IGNORECASE,
)
_TOLD_ADDRESS = re.compile(
    rf"(?:address is|i'?m at|i am at|live at|we'?re at|we are at|house at|place is)\s++"
    rf"(?P<entity>{_HOUSE},?\s++{_NOT_OF_A_STREET}[a-z]+(?:\s[A-Z][a-z]+)?)",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"(?<![\w.+-])[.+-]*+(?P<entity>\w[\w.+-]*+@[\w-]++(?:\.[\w-]+)+)\b")
_SPOKEN_EMAIL = re.compile(
    r"\b\w++(?:\s(?:dot|underscore)\s\w++){0,6}\sat\s(?:\w++\s){1,3}?dot\s(?:com|net|org|edu|us|co)\b|"
    r"(?<![\w.+-])\w[\w.+-]*+\sat\s[\w-]++\.(?:com|net|org|edu|us|co)\b",
    re.IGNORECASE,
)
_TITLE = r"(?P<title>(?:mr|mrs|ms|dr)\.?\s++)?"
_NAMED = re.compile(
    rf"(?:\bmy name'?s|\bmy name is|\bname'?s|\bname is|\blast name is|\blast name'?s)\s++{_TITLE}"
    r"(?P<entity>[a-z][a-z'-]+(?:\s[a-z][a-z'-]+)?)",
    re.IGNORECASE,
)
_INTRODUCED = re.compile(
    r"(?:\b(?:this is|it'?s|it is|i'?m|i am|here'?s|speaking with)|^(?:hi|hey|hello))\s++"
    rf"{_TITLE}"
    r"(?P<entity>[a-z][a-z'-]+(?:\s[a-z][a-z'-]+)?)",
    re.IGNORECASE | re.MULTILINE,
)
_BY_WORDS = cues.WordPatterns(_SPOKEN_PHONE, _ADDRESS, _TIME, _NAMED, _INTRODUCED)
_LETTER = re.compile("[a-z]", re.IGNORECASE)
_NO_DIGIT = re.compile(r"\D")
_PLAIN_AMOUNT = re.compile(r"\d[\d,]*+(?:\.\d++)?")
_THOUSANDS = re.compile(r"\d\s?(?:k\b|thousand)", re.IGNORECASE)
_DIGITAL_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
_BARE_HOUR = re.compile(rf"\b(\d{{1,2}})()\s?(?:{_HALF}|o'?clock|in the)")
_LAST_HOUR = re.compile(r"\b(?:at|around|by|after|before)\s++(\d{1,2})()$")
_SPOKEN_CLOCK = re.compile(rf"\b({_HOUR})(?:\s({_MINUTE}))?\b")
_AFTERNOON = re.compile(r"\bp\.?\s?m|\dp\.?m|in the (?:afternoon|evening)")
_DOT = re.compile(r"\sdot\s")
_UNDERSCORE = re.compile(r"\sunderscore\s")
_DOMAINS = ("dot", ".com", ".net", ".org", ".edu", ".us", ".co")
_BEFORE_ADDRESSES = ("address is", "m at", "live at", "re at", "house at", "place is")
_MOST_ENTITIES = 500
_NOT_A_NAME = cues.words("not_a_name")
FIRST_NAMES = frozenset(
    (resources.files("trunkline_ai.engines.local") / "data" / "first_names.txt")
    .read_text(encoding="utf-8")
    .split()
)


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


def named_in(said: str, kinds: frozenset[EntityType]) -> Iterator[Entity]:
    """Give all finds of these kinds in one turn, overlapping ones too, with offsets into it."""
    return _in_turn(said, Written(straightened(said)), kinds)


def _in_turn(
    said: str, text: Written, kinds: frozenset[EntityType] = frozenset(EntityType)
) -> Iterator[Entity]:
    """The finds in `text`, in the wording of `said`, which is of the same length."""
    spoken_phones, addresses, times, named, introduced = _BY_WORDS.find(text)
    finders: list[tuple[EntityType, Iterable[re.Match[str]], Callable[[str], str]]] = [
        (EntityType.EMAIL, _found(_EMAIL, text, "@"), _email_value),
        (EntityType.EMAIL, _found(_SPOKEN_EMAIL, text, *_DOMAINS), _email_value),
        (EntityType.PHONE_NUMBER, _found(_PHONE, text, *string.digits), _phone_value),
        (EntityType.PHONE_NUMBER, spoken_phones, _phone_value),
        (EntityType.AMOUNT, _found(_AMOUNT, text, "$", "dollar", "buck"), _amount_value),
        (EntityType.ADDRESS, addresses, str),
        (EntityType.ADDRESS, _found(_TOLD_ADDRESS, text, *_BEFORE_ADDRESSES), str),
        (EntityType.TIME, times, _time_value),
    ]
    for kind, matches, normalise in finders:
        for match in matches if kind in kinds else ():
            start, end = match.span("entity" if "entity" in match.re.groupindex else 0)
            if start < 0:  # what the pattern passes over
                continue
            yield Entity(kind, said[start:end], normalise(text[start:end]), start, end)
    if EntityType.PERSON in kinds:
        yield from _people(said, text, named, surely=True)
        yield from _people(said, text, introduced, surely=False)


def _found(pattern: re.Pattern[str], text: Written, *needed: str) -> Iterable[re.Match[str]]:
    """What a pattern finds; it is not looked for in a text without one of these parts, which all of it holds."""
    if text.isascii():
        lowered = text.lowered
        for part in needed:
            if part in lowered:
                break
        else:
            return ()
    return pattern.finditer(text)


def _people(said: str, text: str, matches: Iterable[re.Match[str]], *, surely: bool) -> Iterator[Entity]:
    for match in matches:
        told = surely or bool(match.group("title"))
        kept: list[str] = []
        for word in match.group("entity").split():
            believable = _continues(kept[0], word, text, told) if kept else told or _is_first_name(word)
            if word.lower() in _NOT_A_NAME or not believable:
                break
            kept.append(word)
        if kept:
            start = match.start("entity")
            end = start + len(" ".join(kept))
            name = said[start:end]
            yield Entity(EntityType.PERSON, name, name.title() if name.islower() else name, start, end)


def _continues(first: str, word: str, text: str, told: bool) -> bool:
    """Whether a word is of the name that begins with `first`: where that has a capital, it has one too."""
    if first[0].isupper():
        return word[0].isupper()
    return told or _is_first_name(word) or text.islower()


def _is_first_name(word: str) -> bool:
    return word.lower() in FIRST_NAMES


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


def _email_value(text: str) -> str:
    if "@" in text:
        return text.lower()
    spoken = _DOT.sub(".", text.lower())
    name, _, domain = _UNDERSCORE.sub("_", spoken).partition(" at ")
    return f"{name}@{domain.replace(' ', '')}"
