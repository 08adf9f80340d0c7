"""Finding personal data in a conversation: by kind, with its normal form, and where it was said."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from trunkline_ai.engines.base import Turn
from trunkline_ai.engines.labels import EntityType
from trunkline_ai.engines.local import entities
from trunkline_ai.engines.local.text import straightened
from trunkline_ai.pii import ALL, PiiKind
from trunkline_ai.redaction.addresses import find_addresses
from trunkline_ai.redaction.dates import find_birth_dates
from trunkline_ai.redaction.emails import find_emails
from trunkline_ai.redaction.names import find_names
from trunkline_ai.redaction.numbers import find_numbers
from trunkline_ai.redaction.speech import Place, Speech, place

_ORDER = {kind: number for number, kind in enumerate(PiiKind)}
_SHARED = {
    EntityType.EMAIL: PiiKind.EMAIL,
    EntityType.ADDRESS: PiiKind.ADDRESS,
    EntityType.PERSON: PiiKind.NAME,
}


@dataclass(frozen=True, slots=True)
class Find:
    """One piece of personal data. A number that was said in several turns has a place in each."""

    kind: PiiKind
    value: str
    """Its normal form: the same for all wordings of one thing."""
    places: tuple[Place, ...]


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
                where = Place(where.turn, where.start, where.end - 2)
            yield Find(kind, _normal(speech.turns[where.turn].text[where.start : where.end]), (where,))
    yield from _shared(speech)


def _shared(speech: Speech) -> Iterator[Find]:
    """What the local engine's own patterns find, and the readers of words do not."""
    for number, turn in enumerate(speech.turns):
        for one in entities.named_in(turn.text, frozenset(_SHARED)):
            kind = _SHARED[one.type]
            if straightened(turn.text[one.end : one.end + 1]) == "'":
                continue  # `at nine o'clock`
            value = one.value if kind is PiiKind.EMAIL else _normal(one.text)
            yield Find(kind, value, (Place(number, one.start, one.end),))


def _normal(text: str) -> str:
    return " ".join(text.casefold().replace(",", " ").replace(".", " ").split())
