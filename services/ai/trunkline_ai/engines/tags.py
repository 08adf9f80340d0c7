"""Who analyses the language that a tag names."""

from __future__ import annotations

from collections.abc import Collection

from trunkline_runtime.language_tags import primary_subtag

_UNKNOWN = frozenset({"", "und"})
_ENGLISH = frozenset({"en", "eng"})


def may_be_english(tag: str) -> bool:
    """Whether a tag names English, or no language, so that the words decide."""
    return primary_subtag(tag) in _UNKNOWN | _ENGLISH


def is_among(tag: str, languages: Collection[str] | None) -> bool:
    """Whether an engine that analyses these languages (primary subtags, None for any) may be asked."""
    primary = primary_subtag(tag)
    if languages is None or primary in _UNKNOWN or primary in languages:
        return True
    return primary in _ENGLISH and not _ENGLISH.isdisjoint(languages)
