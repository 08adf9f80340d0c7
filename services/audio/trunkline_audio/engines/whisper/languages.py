"""Which language a recording is in: what was asked for, what was heard, and which of the two is believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from trunkline_runtime.language_tags import primary_subtag

_OF_WHISPER = {"nb": "no", "iw": "he", "in": "id", "ji": "yi", "jv": "jw", "fil": "tl", "cmn": "zh"}
"""What Whisper calls some languages that BCP 47 has another tag for."""
_OF_BCP47 = {"jw": "jv"}

Heard = tuple[float, Iterable[tuple[str, float]]]
"""Seconds of a window, and its likeliest languages with their probabilities."""


@dataclass(frozen=True)
class HeardLanguage:
    """A recording's language as BCP 47, how sure that is (0 to 1), and what was asked for if it was overruled."""

    language: str
    confidence: float
    overruled: str = ""


def code(tag: str) -> str:
    """Whisper's code for a BCP 47 tag, `es` for `es-MX`; empty for an empty tag."""
    primary = primary_subtag(tag)
    return _OF_WHISPER.get(primary, primary)


def likeliest(heard: Iterable[Heard], wanted: str = "") -> str:
    """The language that most of the speech is in; `wanted` instead if that is at least half as likely.

    Empty when nothing was heard.
    """
    votes: Counter[str] = Counter()
    for seconds, languages in heard:
        for language, share in languages:
            votes[language] += seconds * share  # type: ignore[assignment]
    if not votes:
        return ""
    best, most = votes.most_common(1)[0]
    return wanted if votes[wanted] > most / 2 else best


def verdict(tag: str, written: Iterable[tuple[str, float, float]]) -> HeardLanguage:
    """What to say of a recording, from (language, seconds, probability) of each window as it was written.

    A tag that was asked for keeps its region, `en-US`, when its language was heard.
    """
    seconds: Counter[str] = Counter()
    sure: Counter[str] = Counter()
    for language, length, share in written:
        seconds[language] += length  # type: ignore[assignment]
        sure[language] += length * share  # type: ignore[assignment]
    if not seconds:
        return HeardLanguage(tag, 0.0)
    language, length = seconds.most_common(1)[0]
    confidence = round(sure[language] / length, 4) if length else 0.0
    if tag and language == code(tag):
        return HeardLanguage(tag, confidence)
    return HeardLanguage(_OF_BCP47.get(language, language), confidence, overruled=tag)
