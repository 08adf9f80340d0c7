"""What Google's models can do, and what they call a language."""

from __future__ import annotations

from dataclasses import dataclass

ANY_LANGUAGE = "auto"
"""What is asked for when nobody said which language is spoken, of a model that can tell."""
_MINUTE = 60.0
_HOUR = 3600.0


@dataclass(frozen=True)
class ModelTraits:
    """What a model is asked for. What it refuses nevertheless is not asked for again: see the engine."""

    detects_language: bool = False
    word_times: bool = True
    word_confidence: bool = True
    phrases: bool = True
    speakers_in: frozenset[str] = frozenset()
    """The languages in which it tells speakers of one channel apart."""
    longest_seconds: float = 8 * _HOUR
    """The longest file of a BatchRecognize."""
    longest_with_times: float = 8 * _HOUR
    """The same, where the words are to have times."""

    def tells_speakers(self, language: str) -> bool:
        """Whether it tells speakers apart in this language; empty is one that it detects."""
        return bool(self.speakers_in) and (not language or google_language(language) in self.speakers_in)


_CHIRP_3_SPEAKERS = frozenset(
    ("cmn-Hans-CN", "de-DE", "en-GB", "en-IN", "en-US", "es-ES", "es-US", "fr-CA", "fr-FR", "hi-IN", "it-IT",
     "ja-JP", "ko-KR", "pt-BR")
)  # fmt: skip

_MODELS = {
    "chirp_3": ModelTraits(
        detects_language=True,
        word_confidence=False,
        speakers_in=_CHIRP_3_SPEAKERS,
        longest_seconds=_HOUR,
        longest_with_times=20 * _MINUTE,
    ),
    "chirp_2": ModelTraits(detects_language=True, word_confidence=False),
    "chirp": ModelTraits(detects_language=True, word_confidence=False, phrases=False),
}
"""From Google's pages about each model, as of November 2026."""


def traits_of(model: str) -> ModelTraits:
    """Return what is known of a model; one that is not known is asked for what most can do."""
    return _MODELS.get(model, ModelTraits())


_REGIONS = {
    "ar": "ar-EG", "cmn": "cmn-Hans-CN", "da": "da-DK", "de": "de-DE", "en": "en-US", "es": "es-US", "fi": "fi-FI",
    "fr": "fr-FR", "hi": "hi-IN", "it": "it-IT", "ja": "ja-JP", "ko": "ko-KR", "nl": "nl-NL", "no": "no-NO",
    "pl": "pl-PL", "pt": "pt-BR", "ru": "ru-RU", "sv": "sv-SE", "tr": "tr-TR", "uk": "uk-UA", "vi": "vi-VN",
    "zh": "cmn-Hans-CN", "zh-cn": "cmn-Hans-CN", "zh-tw": "cmn-Hant-TW",
}  # fmt: skip
"""Google wants a region with each language: the one of most speakers, and for Spanish that of its American callers."""


def google_language(language: str) -> str:
    """Return Google's tag of a language, BCP 47; one that is not in the table as it is."""
    return _REGIONS.get(language.casefold(), language)
