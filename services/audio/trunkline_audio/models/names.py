"""Names of models, as faster-whisper gives them, and the repositories of the model hub they stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass

ENGLISH = "English"
# Whisper was trained on 99 languages; its third large version added Cantonese.
MANY = "99"
MORE = "100"


@dataclass(frozen=True)
class Known:
    """A model that can be fetched by name.

    `megabytes` is about what it takes on disk: two bytes for each weight, and the tokenizer.
    """

    repository: str
    languages: str
    megabytes: int
    renders_english: bool = False
    """Whether it writes other languages in English well enough to be read as what was said."""


KNOWN: dict[str, Known] = {
    "base": Known("Systran/faster-whisper-base", MANY, 148),
    "base.en": Known("Systran/faster-whisper-base.en", ENGLISH, 148),
    "tiny": Known("Systran/faster-whisper-tiny", MANY, 78),
    "tiny.en": Known("Systran/faster-whisper-tiny.en", ENGLISH, 78),
    "small": Known("Systran/faster-whisper-small", MANY, 486),
    "small.en": Known("Systran/faster-whisper-small.en", ENGLISH, 486),
    "medium": Known("Systran/faster-whisper-medium", MANY, 1_530, renders_english=True),
    "medium.en": Known("Systran/faster-whisper-medium.en", ENGLISH, 1_530),
    "large": Known("Systran/faster-whisper-large-v3", MORE, 3_090, renders_english=True),
    "large-v1": Known("Systran/faster-whisper-large-v1", MANY, 3_090, renders_english=True),
    "large-v2": Known("Systran/faster-whisper-large-v2", MANY, 3_090, renders_english=True),
    "large-v3": Known("Systran/faster-whisper-large-v3", MORE, 3_090, renders_english=True),
    "large-v3-turbo": Known("mobiuslabsgmbh/faster-whisper-large-v3-turbo", MORE, 1_620),
    "turbo": Known("mobiuslabsgmbh/faster-whisper-large-v3-turbo", MORE, 1_620),
    "distil-small.en": Known("Systran/faster-distil-whisper-small.en", ENGLISH, 335),
    "distil-medium.en": Known("Systran/faster-distil-whisper-medium.en", ENGLISH, 790),
    "distil-large-v2": Known("Systran/faster-distil-whisper-large-v2", ENGLISH, 1_515),
    "distil-large-v3": Known("Systran/faster-distil-whisper-large-v3", ENGLISH, 1_515),
    "distil-large-v3.5": Known("distil-whisper/distil-large-v3.5-ct2", ENGLISH, 1_515),
}

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_SLASH = "--"


def repository(name: str) -> str | None:
    """The repository that a name stands for, or that the name is (`owner/repository`); else None."""
    if name in KNOWN:
        return KNOWN[name].repository
    return name if _REPOSITORY.fullmatch(name) else None


def folder_name(name: str) -> str:
    """What a model's folder is called: the name; for a repository, as the hub's own cache calls it."""
    return name.replace("/", _SLASH)


def of_folder(name: str) -> str:
    """The model that a folder of this name holds."""
    return name if name in KNOWN else name.replace(_SLASH, "/", 1)


def renders_english(name: str) -> bool:
    """Whether a model may be asked for English in place of the language that was spoken.

    Not the small ones: base makes another story of a sentence. Not turbo, which was trained without that task, and no
    model of which nothing is known.
    """
    return any(known.renders_english and name in (key, known.repository) for key, known in KNOWN.items())


def allowed() -> str:
    """The names that can be fetched, for a message."""
    return ", ".join(KNOWN) + " or a repository as owner/name"
