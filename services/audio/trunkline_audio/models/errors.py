"""What can be wrong with a model; every message is one plain line."""

from __future__ import annotations

import re

_QUERY = re.compile(r"\?[^\s'\"]++")


class ModelError(Exception):
    """A model cannot be used or cannot be had."""


class ModelMissing(ModelError):
    """The model is not there; the message says which command fetches it."""


class ModelDamaged(ModelError):
    """The model is there and a file of it is missing or wrong; the message names the file, never its bytes."""


class ModelUnknown(ModelError):
    """No model has this name; the message lists those that can be fetched."""


class NotFetched(ModelError):
    """A fetch failed; the message says what was tried and why each attempt failed."""


class SourceFailed(Exception):
    """One place that models come from did not give this one; the message is the reason."""


def one_line(text: str) -> str:
    """The first line of a library's message without the query strings of URLs, which may be credentials."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    plain = _QUERY.sub("?...", first)
    return plain if len(plain) <= 200 else plain[:197] + "..."


def of_disk(error: OSError, path: object) -> str:
    """An error of the disk as one line that names the path; `path` stands in where the error names none."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename or path}: not a folder"
    return f"{error.filename or path}: {error.strerror or error}"
