"""The names that a tenant gives its labels and keywords: two that look alike are the same, or are refused."""

from __future__ import annotations

import unicodedata

from trunkline.common.v1 import analysis_settings_pb2
from trunkline_runtime.errors import InvalidArgument

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Categories of characters that nobody sees."""
_MOST = 60
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and signs without ink."""


def tidy_names(settings: analysis_settings_pb2.AnalysisSettings) -> None:
    """Trim and compose the names, in place. Raises InvalidArgument for one that hides something, or occurs twice."""
    for part in ("labels", "keywords"):
        names: set[str] = set()
        for number, one in enumerate(getattr(settings, part)):
            one.name = unicodedata.normalize("NFC", one.name).strip()
            field = f"tenant.analysis_settings.{part}[{number}].name"
            if not one.name:
                raise InvalidArgument(field, "must have a character that can be seen")
            if len(one.name) > _MOST:  # a few characters are two once composed
                raise InvalidArgument(field, f"must be at most {_MOST} characters")
            if any(_unseen(character) for character in one.name):
                raise InvalidArgument(field, "must have no invisible characters")
            if one.name in names:
                raise InvalidArgument(f"tenant.analysis_settings.{part}", "must have names that differ")
            names.add(one.name)


def _unseen(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in _UNSEEN or character in _FILLERS or (kind == "Zs" and character != " ")
