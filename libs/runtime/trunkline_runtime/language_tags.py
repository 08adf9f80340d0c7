"""Language tags (BCP 47): the language and the region that one names."""

from __future__ import annotations


def primary_subtag(tag: str) -> str:
    """Return the language of a tag: `es` of `es-MX` and of `ES_mx`."""
    return _parts(tag)[0].lower()


def region_of(tag: str) -> str:
    """Return the region of a tag, as `US` of `en-US`; empty when it names none."""
    return next((part.upper() for part in _parts(tag)[1:] if len(part) == 2 and part.isalpha()), "")


def _parts(tag: str) -> list[str]:
    return tag.replace("_", "-").split("-")
