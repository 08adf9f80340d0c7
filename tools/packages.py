"""The repository's packages and what each stands on, as their pyproject.toml files say."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Package:
    """One folder of libs/ or services/, or cli/."""

    folder: Path
    siblings: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def lock(self) -> Path:
        """Third parties at their versions, its siblings' included."""
        return self.folder / "requirements.lock"

    @property
    def spanner_lock(self) -> Path | None:
        """The same with what Cloud Spanner needs, of a service that has a store; None for the others."""
        if self.folder.parent.name != "services":
            return None
        return self.folder / "requirements-spanner.lock"


def packages() -> list[Package]:
    """Every package, libraries first, the command last."""
    found = []
    for pattern in ("libs/*", "services/*", "cli"):
        for file in sorted(ROOT.glob(f"{pattern}/pyproject.toml")):
            siblings = tomllib.loads(file.read_text())["tool"]["trunkline"]["siblings"]
            found.append(Package(file.parent, tuple(ROOT / name for name in siblings)))
    return found
