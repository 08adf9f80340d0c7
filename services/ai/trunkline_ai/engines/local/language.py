"""Which language was spoken, as far as rules for English have to know: whether it is another one, and its name."""

from itertools import islice

from trunkline_runtime.language_tags import may_be_english, primary_subtag

from trunkline_ai.engines.local import cues

_LATIN_ENDS = "\u024f"
_LETTERS_LOOKED_AT = 2_000
_NAMES = {str(code): str(name) for code, name in cues.load("languages.toml")["names"].items()}


def foreign(tag: str, text: str) -> str:
    """The BCP 47 tag of the language of `text` where that is not English; empty for English and for no words.

    `tag` is what the transcript says. Without one, or with English, a text in another script than Latin is `und`.
    """
    if not text.strip():
        return ""
    if not may_be_english(tag):
        return tag
    if text.isascii():
        return ""
    letters = list(islice((character for character in text if character.isalpha()), _LETTERS_LOOKED_AT))
    return "und" if sum(letter > _LATIN_ENDS for letter in letters) > len(letters) / 2 else ""


def name_of(tag: str) -> str:
    """How a sentence names a language: `Spanish` for `es-US`, the tag itself for one that is seldom heard."""
    return _NAMES.get(primary_subtag(tag), f"the language {tag}")
