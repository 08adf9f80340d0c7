"""Models from the model hub, through huggingface_hub."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline_audio.models.errors import SourceFailed, one_line
from trunkline_audio.models.lookup import REQUIRED, VOCABULARIES

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NAME = "the model hub"
WANTED = frozenset({*REQUIRED, *VOCABULARIES, "preprocessor_config.json"})
_ASK_SECONDS = 10.0


@dataclass(frozen=True)
class Published:
    """A file of a repository; the hub publishes the SHA-256 of large ones only."""

    name: str
    bytes: int | None
    sha256: str | None


@dataclass(frozen=True)
class Revision:
    """A commit of a repository, and those of its files that a model needs."""

    commit: str
    files: tuple[Published, ...]


def obtain(repository: str, revision: str | None, into: Path) -> Revision:
    """Write a model's files into the empty folder `into`: those of a revision, or of the current one.

    Nothing is checked but what huggingface_hub checks itself. Raises SourceFailed.
    """
    try:
        # Half a second to import, and a service that only looks models up does without.
        from huggingface_hub import HfApi  # noqa: PLC0415
        from huggingface_hub.utils.tqdm import disable_progress_bars, tqdm  # noqa: PLC0415
    except ImportError:
        raise SourceFailed("huggingface_hub is not installed in this Python") from None
    # A bar takes a lock between processes and starts a thread, also when it shows nothing. A Ctrl-C in the middle of
    # that leaves the lock taken, and the process never ends.
    disable_progress_bars()
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0
    # Its warnings tell of attempts; how they end is told here.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    # As it is set now: the client looks once, when it is imported.
    api = HfApi(os.environ.get("HF_ENDPOINT") or None, library_name="trunkline")
    try:
        found = _ask(api, repository, revision)
        for file in found.files:
            api.hf_hub_download(repository, file.name, revision=found.commit, local_dir=into)
    except SourceFailed:
        raise
    except Exception as error:
        # Errors of three HTTP libraries, of a native one and of the disk come out of there.
        raise SourceFailed(_reason(error, repository)) from error
    shutil.rmtree(into / ".cache", ignore_errors=True)
    return found


def _ask(api: HfApi, repository: str, revision: str | None) -> Revision:
    """What the hub has. This fails at once where a download would try for half a minute."""
    info = api.model_info(repository, revision=revision, files_metadata=True, timeout=_ASK_SECONDS)
    files = tuple(
        Published(file.rfilename, file.size, file.lfs.sha256 if file.lfs else None)
        for file in info.siblings or ()
        if file.rfilename in WANTED
    )
    if not info.sha or "model.bin" not in {file.name for file in files}:
        raise SourceFailed(f"{repository} holds no model of faster-whisper")
    return Revision(info.sha, files)


def _reason(error: Exception, repository: str) -> str:
    """Why the hub failed, in one line."""
    from huggingface_hub import errors  # noqa: PLC0415

    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} is given to those only who accepted its terms there"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"it has no {repository}, or only for those who are logged in"
    if isinstance(error, errors.RevisionNotFoundError | errors.RemoteEntryNotFoundError):
        return f"it no longer has all of that revision of {repository}"
    reason = one_line(str(error) or type(error).__name__)
    # The client has changed its HTTP library before; the names of errors stayed.
    return f"it cannot be reached: {reason}" if type(error).__name__.startswith("Connect") else reason
