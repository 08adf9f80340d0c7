"""Language tags (BCP 47): the language and the region that one names, and whether an engine analyses it."""

from __future__ import annotations

from collections.abc import Collection

_UNKNOWN = frozenset({"", "und"})
_ENGLISH = frozenset({"en", "eng"})


def primary_subtag(tag: str) -> str:
    """Return the language of a tag: `es` of `es-MX` and of `ES_mx`."""
    return _parts(tag)[0].lower()


def region_of(tag: str) -> str:
    """Return the region of a tag, as `US` of `en-US`; empty when it names none."""
    return next((part.upper() for part in _parts(tag)[1:] if len(part) == 2 and part.isalpha()), "")


def may_be_english(tag: str) -> bool:
    """Whether a tag names English, or no language, so that the words decide."""
    return primary_subtag(tag) in _UNKNOWN | _ENGLISH


def is_among(tag: str, languages: Collection[str] | None) -> bool:
    """Whether an engine that analyses these languages (primary subtags, None for any) may be asked."""
    primary = primary_subtag(tag)
    if languages is None or primary in _UNKNOWN or primary in languages:
        return True
    return primary in _ENGLISH and not _ENGLISH.isdisjoint(languages)


def _parts(tag: str) -> list[str]:
    return tag.replace("_", "-").split("-")
