"""Finding personal data in a conversation: by kind, with its normal form, and where it was said."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from trunkline_words.personal import patterns
from trunkline_words.personal.addresses import find_addresses
from trunkline_words.personal.dates import find_birth_dates
from trunkline_words.personal.emails import find_emails
from trunkline_words.personal.names import find_names
from trunkline_words.personal.numbers import find_numbers
from trunkline_words.personal.policy import ALL, PiiKind
from trunkline_words.personal.speech import Speech, TextPlace, Turn, place
from trunkline_words.written import Written, straightened

_ORDER = {kind: number for number, kind in enumerate(PiiKind)}
_PATTERNS = (
    (PiiKind.EMAIL, patterns.emails),
    (PiiKind.ADDRESS, patterns.addresses),
    (PiiKind.NAME, patterns.people),
)


@dataclass(frozen=True, slots=True)
class Find:
    """One piece of personal data. A number that was said in several turns has a place in each."""

    kind: PiiKind
    value: str
    """Its normal form: the same for all wordings of one thing."""
    places: tuple[TextPlace, ...]


def find_pii(turns: Sequence[Turn], kinds: Collection[PiiKind] = ALL) -> list[Find]:
    """Return the finds in order of place; none overlaps another. The time that it takes grows with the words alone."""
    speech = Speech(turns)
    found = sorted(_all(speech), key=lambda find: _ORDER[find.kind])
    taken = [bytearray(len(turn.text)) for turn in turns]
    kept = []
    for find in found:
        free = [one for one in find.places if not any(taken[one.turn][one.start : one.end])]
        if not free or (len(free) < len(find.places) and find.kind is not PiiKind.NAME):
            continue
        for one in free:
            taken[one.turn][one.start : one.end] = b"\1" * (one.end - one.start)
        if find.kind in kinds:
            kept.append(Find(find.kind, find.value, tuple(free)))
    return sorted(kept, key=lambda find: (find.places[0].turn, find.places[0].start))


def _all(speech: Speech) -> Iterator[Find]:
    for number in find_numbers(speech):
        yield Find(number.kind, number.value, number.places)
    for first, end, written in find_emails(speech):
        yield Find(PiiKind.EMAIL, written, (place(speech, first, end),))
    for kind, spans in (
        (PiiKind.BIRTH_DATE, find_birth_dates(speech)),
        (PiiKind.ADDRESS, find_addresses(speech)),
        (PiiKind.NAME, find_names(speech)),
    ):
        for first, end in spans:
            where = place(speech, first, end)
            if kind is PiiKind.NAME and speech.words[end - 1].text.endswith("'s"):
                where = TextPlace(where.turn, where.start, where.end - 2)
            yield Find(kind, _normal(speech.turns[where.turn].text[where.start : where.end]), (where,))
    yield from _by_patterns(speech)


def _by_patterns(speech: Speech) -> Iterator[Find]:
    """Give what the patterns over a turn find, and the readers of words do not."""
    for number, turn in enumerate(speech.turns):
        written = Written(straightened(turn.text))
        for kind, found in _PATTERNS:
            for one in found(turn.text, written):
                if straightened(turn.text[one.end : one.end + 1]) == "'":
                    continue  # `at nine o'clock`
                value = one.value if kind is PiiKind.EMAIL else _normal(one.text)
                yield Find(kind, value, (TextPlace(number, one.start, one.end),))


def _normal(text: str) -> str:
    return " ".join(text.casefold().replace(",", " ").replace(".", " ").split())
