"""Labelled transcripts: one JSON object a line, with id, text, spam, sentiment, intent, and lead."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from trunkline_ai.engines.base import SpeakerRole, Transcript, Turn
from trunkline_ai.engines.labels import Intent, LeadLevel, Sentiment

from tools.packages import ROOT

DATA = ROOT / "tests" / "data" / "analysis"
LABELS: dict[str, type[StrEnum]] = {"sentiment": Sentiment, "intent": Intent, "lead": LeadLevel}
FIELDS = ("spam", *LABELS)
_MARK = re.compile(r"(?:^|(?<=\s))([AC]|(?m:^)[ac]):(?=\s|$)")


class DataError(Exception):
    """A file cannot be evaluated; the message names line and field."""


@dataclass(frozen=True)
class Item:
    """One labelled transcript; `labels` by field, spam as `1` or `0`."""

    identity: str
    transcript: Transcript
    labels: dict[str, str]


def transcript_of(text: str) -> Transcript:
    """Turns by their marks, on lines of their own or not; text before the first mark is of an unknown speaker."""
    parts = _MARK.split(text)
    turns = [Turn(SpeakerRole.UNKNOWN, parts[0].strip())]
    for mark, said in zip(parts[1::2], parts[2::2], strict=True):
        turns.append(Turn(SpeakerRole.AGENT if mark in "Aa" else SpeakerRole.CUSTOMER, said.strip()))
    return Transcript(tuple(turn for turn in turns if turn.text))


def read(path: Path) -> list[Item]:
    """The items of a file. Raises DataError that names line and field."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    items = [_item(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    if not items:
        raise DataError(f"{path}: holds no transcripts")
    seen: set[str] = set()
    for item in items:
        if item.identity in seen:
            raise DataError(f"{path}: field `id`: {item.identity!r} occurs twice")
        seen.add(item.identity)
    return items


def _item(place: str, line: str) -> Item:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: must be a JSON object with id, text, spam, sentiment, intent and lead")
    for field in ("id", "text", *FIELDS):
        if field not in row:
            raise DataError(f"{place}: field `{field}` is missing")
    if not isinstance(row["id"], str | int):
        raise DataError(f"{place}: field `id` must be text")
    if not isinstance(row["text"], str):
        raise DataError(f"{place}: field `text` must be text, empty for silence")
    if row["spam"] not in (0, 1):
        raise DataError(f"{place}: field `spam` must be 0 or 1, not {json.dumps(row['spam'])}")
    labels = {"spam": str(int(row["spam"]))}
    for field, allowed in LABELS.items():
        if row[field] not in list(allowed):
            given = json.dumps(row[field])
            raise DataError(f"{place}: field `{field}` must be one of {', '.join(allowed)}, not {given}")
        labels[field] = row[field]
    return Item(str(row["id"]), transcript_of(row["text"]), labels)
