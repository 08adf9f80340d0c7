"""Placeholders such as `[PHONE_1]` in place of what was found, and the words back in place of placeholders."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from trunkline_words.personal.finder import Find, find_pii
from trunkline_words.personal.policy import ALL, PLACEHOLDER, PiiKind
from trunkline_words.personal.speech import ORDINARY, PlainTurn, TextPlace, Turn

_PLACEHOLDER = re.compile(PLACEHOLDER)
_FIGURES = frozenset({PiiKind.PHONE, PiiKind.EMAIL, PiiKind.CARD, PiiKind.SSN})
"""Kinds whose normal form is one that people write."""
_LEAST_WORDING = 3


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of the conversation, as said and with placeholders: offsets into the turns joined by line breaks."""

    said: int
    shown: int
    placeholder: str
    """Empty where both are the same."""


class Redaction:
    """A conversation's turns with placeholders. The same value has the same placeholder, whatever its wording."""

    def __init__(self, turns: Sequence[Turn], kinds: Collection[PiiKind] = ALL) -> None:
        """Find and replace. It takes some 20 ms for a thousand words: long conversations belong in a thread."""
        self._kinds = frozenset(kinds)
        self._said = "\n".join(turn.text for turn in turns)
        # Somebody may write `[PHONE_1]`: what was said never reads as a placeholder of ours.
        self._not_ours = set(_PLACEHOLDER.findall(self._said))
        self._names: dict[tuple[PiiKind, str], str] = {}
        self._counts: dict[PiiKind, int] = {}
        self._words: dict[str, str] = {}
        self._normal: dict[str, str] = {}
        self._redacted: dict[str, str] = {}
        wordings: dict[str, str] = {}
        places: list[tuple[TextPlace, str]] = []
        for find in find_pii(turns, self._kinds):
            name = self._name(find)
            texts = [turns[one.turn].text[one.start : one.end] for one in find.places]
            self._words.setdefault(name, texts[0] if len(texts) == 1 else find.value)
            self._normal.setdefault(name, find.value if find.kind in _FIGURES else "")
            if find.kind in _FIGURES:
                wordings.setdefault(find.value, name)
            for text in texts:
                wordings.setdefault(text, name)
            places += [(one, name) for one in find.places]
        self._wordings = sorted(
            (one for one in wordings.items() if len(one[0]) >= _LEAST_WORDING), key=lambda one: -len(one[0])
        )
        self.places = sorted(places, key=lambda one: (one[0].turn, one[0].start))
        """Where something was found, with its placeholder."""
        self.texts, self._pieces = _replaced_in(turns, self.places)
        """`texts`: those of the turns, with placeholders."""
        self._shown = "\n".join(self.texts)

    @property
    def placeholders(self) -> Collection[str]:
        """All that stand in the texts."""
        return self._words.keys()

    def restored(self, text: str, *, normal: bool = False) -> str:
        """Return a model's text with the words in place of placeholders; unknown placeholders stay as they are.

        What stands in the conversation word for word is given as it was said there. With `normal`, a placeholder that
        is alone gives its normal form, such as +13125550199, or nothing.
        """
        if not any(found in self._words for found in _PLACEHOLDER.findall(text)):
            return text
        if normal and text in self._words:
            return self._normal[text]
        at = self._shown.find(text)
        if at >= 0:
            return self._said[self._back(at, end=False) : self._back(at + len(text), end=True)]
        return _PLACEHOLDER.sub(lambda found: self._words.get(found.group(), found.group()), text)

    def redacted(self, text: str) -> str:
        """Return a text about the conversation with the same placeholders, and further ones for what it adds."""
        if text not in self._redacted:  # a caller's one number may be named two hundred times
            self._redacted[text] = self._redacted_anew(text)
        return self._redacted[text]

    def _redacted_anew(self, text: str) -> str:
        if (shown := self._shown_as(text)) is not None:
            return shown
        for wording, placeholder in self._wordings:
            text = _replaced(text, wording, placeholder)
        return "".join(self._rest(text))

    def _shown_as(self, text: str) -> str | None:
        """Return how a text that stands in the conversation is shown there; None where it does not stand there.

        Of several places, the first one that has a placeholder counts: the words may be from there. Of an ordinary
        word, it is the first place. Places within other words count only if there is no better one.
        """
        if len(text) <= 1:
            return None
        found: dict[bool, str] = {}
        at = self._said.find(text)
        while at >= 0:
            end = at + len(text)
            shown = self._shown[self._forth(at, end=False) : self._forth(end, end=True)]
            whole = not _is_within_words(self._said, at, end)
            if whole and shown != text and text not in ORDINARY:
                return shown
            found.setdefault(whole, shown)
            at = self._said.find(text, end)
        return found.get(True, found.get(False))

    def _rest(self, text: str) -> Iterator[str]:
        """Give a text with its own finds replaced; placeholders that are there stay."""
        ours = [found.span() for found in _PLACEHOLDER.finditer(text)]
        behind = 0
        for find in find_pii([PlainTurn("", text)], self._kinds):
            for one in find.places:
                if one.start < behind or any(one.start < end and start < one.end for start, end in ours):
                    continue
                yield text[behind : one.start]
                yield self._name(find)
                behind = one.end
        yield text[behind:]

    def _name(self, find: Find) -> str:
        key = (find.kind, find.value)
        name = self._names.get(key, "")
        while not name or name in self._not_ours:
            number = self._counts[find.kind] = self._counts.get(find.kind, 0) + 1
            name = self._names[key] = f"[{find.kind.name}_{number}]"
        return name

    def _back(self, shown: int, *, end: bool) -> int:
        """Return the offset into what was said; one within a placeholder is that of its begin, or of its end."""
        at = bisect_right(self._pieces, shown, key=lambda piece: piece.shown) - 1
        if end and at > 0 and self._pieces[at].shown == shown:
            at -= 1  # the end of the piece before
        piece = self._pieces[at]
        if not piece.placeholder:
            return piece.said + shown - piece.shown
        if not end and shown == piece.shown:
            return piece.said
        return self._pieces[at + 1].said

    def _forth(self, said: int, *, end: bool) -> int:
        """Return the offset into what is shown; within something found, that of the placeholder's begin or end."""
        at = bisect_right(self._pieces, said, key=lambda piece: piece.said) - 1
        if end and at > 0 and self._pieces[at].said == said:
            at -= 1
        piece = self._pieces[at]
        if not piece.placeholder:
            return piece.shown + said - piece.said
        return self._pieces[at + 1].shown if end else piece.shown


def _replaced_in(
    turns: Sequence[Turn], places: list[tuple[TextPlace, str]]
) -> tuple[list[str], list[_Piece]]:
    """Return the turns' texts with placeholders, and the pieces of both texts, with one behind the last."""
    texts: list[str] = []
    pieces: list[_Piece] = []
    said = shown = at = 0
    for number, turn in enumerate(turns):
        made: list[str] = []
        behind = 0
        while at < len(places) and places[at][0].turn == number:
            where, name = places[at]
            made += [turn.text[behind : where.start], name]
            pieces.append(_Piece(said + behind, shown, ""))
            shown += where.start - behind
            pieces.append(_Piece(said + where.start, shown, name))
            shown += len(name)
            behind = where.end
            at += 1
        made.append(turn.text[behind:])
        pieces.append(_Piece(said + behind, shown, ""))
        shown += len(turn.text) - behind + 1
        said += len(turn.text) + 1
        texts.append("".join(made))
    pieces.append(_Piece(said, shown, ""))
    return texts, pieces


def _is_within_words(text: str, start: int, end: int) -> bool:
    """Tell whether a word goes on before or behind a stretch of a text."""
    before = text[start].isalnum() and text[start - 1 : start].isalnum()
    return before or (text[end - 1].isalnum() and text[end : end + 1].isalnum())


def _replaced(text: str, wording: str, placeholder: str) -> str:
    """Replace a wording where it stands as whole words, in capitals or not; an ordinary word only with its capital."""
    exact = wording.casefold() in ORDINARY
    if exact and not wording[0].isupper():
        return text
    searched, sought = (text, wording) if exact else (text.lower(), wording.lower())
    if len(searched) != len(text):
        searched, sought = text, wording
    made = []
    behind = 0
    at = searched.find(sought)
    while at >= 0:
        end = at + len(sought)
        if not (text[at - 1 : at].isalnum() or text[end : end + 1].isalnum()):
            made += [text[behind:at], placeholder]
            behind = end
        at = searched.find(sought, end)
    return "".join((*made, text[behind:]))
