"""Finds a model on disk and proves it whole. Nothing here uses the network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from trunkline_audio.models import names
from trunkline_audio.models.digests import check, check_manifest
from trunkline_audio.models.errors import ModelDamaged, ModelError, ModelMissing, of_disk
from trunkline_audio.models.pins import PINS

SETTING = "TRUNKLINE_MODELS_FOLDER"
COMMAND = "python -m trunkline_audio.models"
VOCABULARIES = ("vocabulary.txt", "vocabulary.json")
# Whisper's runtime looks for a tokenizer on the network when the folder has none.
REQUIRED = ("model.bin", "config.json", "tokenizer.json")


def default_folder(env: Mapping[str, str] = os.environ) -> Path:
    """The folder of fetched models: TRUNKLINE_MODELS_FOLDER, or `trunkline/models` in the user's cache.

    Raises ModelError if the setting is empty and the user has no home.
    """
    if env.get(SETTING):
        return Path(os.path.expanduser(env[SETTING]))
    cache = Path(env.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():
        try:
            cache = Path.home() / ".cache"
        except RuntimeError:
            raise ModelError(f"this user has no home folder to keep models in: set {SETTING}") from None
    return cache / "trunkline" / "models"


def locate(model: str, folder: Path) -> Path:
    """The folder that holds a model's files, all of them present.

    `model` is a name ("base"), a repository of the model hub ("owner/name") or a directory. The names that
    can be fetched and repositories lie in `folder`; what else has a path separator, or is there, is a
    directory. Raises ModelMissing and ModelDamaged.
    """
    try:
        path = place(model, folder)
        if not path.is_dir():
            raise ModelMissing(_missing(model, path, folder))
        absent = lacking(path)
    except OSError as error:
        raise ModelDamaged(of_disk(error, model)) from None
    if absent:
        remedy = _remedy(model, path, folder) or f"; a model has {_files()}"
        raise ModelDamaged(f"model {model}: {path} has no {absent}{remedy}")
    return path


def reachable(model: str) -> None:
    """Check that a model can ever be found: by a name that can be fetched, or in a folder that is there.

    Raises ValueError that says what is allowed, as the end of "SETTING ...".
    """
    try:
        folder = default_folder()
        path = place(model, folder)
        there = path.is_dir()
    except (ModelError, OSError) as error:
        raise ValueError(f"cannot be looked for: {error}") from None
    if path.parent == folder and os.environ.get(SETTING) and not folder.is_dir():
        raise ValueError(f"needs {SETTING} to be a folder, and {folder} is none")
    if not there and not _fetchable(model, path, folder):
        raise ValueError(f"must be one of {names.allowed()}, or a folder that has {_files()}")


def verify(model: str, folder: Path) -> Path:
    """The folder that holds a model's files, proved whole: size and SHA-256 of each. Reads every byte.

    A pinned name is held against its pins, another model against the SHA256SUMS in its folder. A directory
    without one is taken as it is. Raises ModelMissing and ModelDamaged, which names the first wrong file.
    """
    path = locate(model, folder)
    try:
        if model in PINS:
            for file in PINS[model].files:
                check(path / file.name, file.bytes, file.sha256)
        else:
            check_manifest(path)
    except ModelDamaged as error:
        raise ModelDamaged(f"model {model}: {error}{_remedy(model, path, folder)}") from None
    except OSError as error:
        raise ModelDamaged(of_disk(error, path)) from None
    return path


def place(model: str, folder: Path) -> Path:
    """Where a model is, or would be after a fetch. Raises ModelMissing if no name is given, and OSError."""
    if not model:
        raise ModelMissing("no model is named")
    # A name is a name wherever the process was started, also beside a folder that is called "base".
    if model in names.KNOWN:
        return folder / model
    # Unlike Path.expanduser this leaves "~nobody" as it is.
    given = Path(os.path.expanduser(model))
    if names.repository(model) is not None and not given.is_dir():
        return folder / names.folder_name(model)
    return given if os.sep in model or given.is_dir() else folder / model


def lacking(path: Path) -> str:
    """The first file that a model's folder must have and has not; empty if it has all. Raises OSError."""
    for name in REQUIRED:
        if not (path / name).is_file():
            return name
    return "" if any((path / name).is_file() for name in VOCABULARIES) else " or ".join(VOCABULARIES)


def _missing(model: str, path: Path, folder: Path) -> str:
    if _fetchable(model, path, folder):
        gone = "" if folder.is_dir() else f", which is not there ({SETTING} sets it)"
        return f"model {model} is not in {folder}{gone}: `{COMMAND} fetch {model}` fetches it"
    if os.sep in model:
        return f"model {model}: there is no folder {path}"
    return f"no model {model!r}: allowed are {names.allowed()}, or a folder that has {_files()}"


def _remedy(model: str, path: Path, folder: Path) -> str:
    return f": `{COMMAND} fetch {model}` puts it right" if _fetchable(model, path, folder) else ""


def _fetchable(model: str, path: Path, folder: Path) -> bool:
    return path.parent == folder and names.repository(model) is not None


def _files() -> str:
    return f"{', '.join(REQUIRED)} and {' or '.join(VOCABULARIES)}"
