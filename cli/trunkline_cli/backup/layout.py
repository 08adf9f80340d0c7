"""Where the embedded default keeps its state, by the same settings as the services'."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from trunkline_cli.screen import Failure

SPOOL = "gateway.spool"
"""A folder, not a database: a log in segments."""
PLAN = Path("restoring", "plan.json")
"""In the folder of the state: what a restore that was interrupted has still to do; see swapping.py."""
SERVICES = ("gateway", "audio", "ai", "tenant")
# The order of copying, which matters: docs/decisions/0010-backup.md.
DATABASES = (SPOOL, *SERVICES)


class BackupError(Failure):
    """Nothing was done, or nothing that counts; the text says why."""


@dataclass(frozen=True)
class Layout:
    """The files of one suite."""

    folder: Path
    databases: Mapping[str, Path]  # by the names of DATABASES; the spool's is a folder
    blobs: Path
    source_cache: Path
    seed: Path  # what `trunkline up` knows of the tenants that it made
    secret_keys: Path
    kept_keys: Mapping[str, Path]  # those that any value would do for

    @property
    def plan(self) -> Path:
        """The file of a restore's plan."""
        return self.folder / PLAN

    @property
    def backups(self) -> Path:
        """Where backups go when nobody says where."""
        return self.folder / "backups"


def layout_of(folder: Path, env: Mapping[str, str] | None = None) -> Layout:
    """Return where `trunkline up` over this folder keeps things. Raises BackupError for what lies in no file here."""
    env = os.environ if env is None else env
    if bucket := env.get("TRUNKLINE_AUDIO_BLOBS_BUCKET"):
        # Without the bytes beside them, a backup would lose the rows of all recordings.
        raise BackupError(f"the recordings lie in {bucket}, which a backup does not copy")
    folder = folder.absolute()

    def place(setting: str, default: Path) -> Path:
        return Path(env.get(f"TRUNKLINE_{setting}") or default).absolute()

    files = {name: _file_of(name, env, folder) for name in SERVICES}
    spool = place("GATEWAY_SPOOL_PATH", files["gateway"].with_name(files["gateway"].name + ".spool"))
    return Layout(
        folder=folder,
        databases={SPOOL: spool, **files},
        blobs=place("AUDIO_BLOBS_FOLDER", folder / "blobs"),
        source_cache=place("GATEWAY_SOURCE_CACHE", folder / "gateway.sources"),
        seed=folder / "seed.json",
        secret_keys=place("TENANT_SECRET_KEYS_FILE", folder / "secrets.key"),
        kept_keys={
            "operator.token": place("TENANT_OPERATOR_TOKEN_FILE", folder / "operator.token"),
        },
    )


def _file_of(service: str, env: Mapping[str, str], folder: Path) -> Path:
    given = env.get(f"TRUNKLINE_{service.upper()}_STORE_URL")
    if not given:
        return folder / f"{service}.db"
    try:
        url = sa.make_url(given)
    except sa.exc.ArgumentError as error:
        raise BackupError(f"TRUNKLINE_{service.upper()}_STORE_URL: {error}") from None
    if url.get_backend_name() != "sqlite" or not url.database:
        raise BackupError(
            f"the store of {service} is on {url.get_backend_name()}, which has backups of its own: docs/engines.md"
        )
    return Path(url.database).absolute()
