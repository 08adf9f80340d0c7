"""`make envoy`: the configuration of Envoy in k8s/, from the settings of the edge that lie beside it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from trunkline_cli.edge import bootstrap, certificates, layout

from tools.packages import ROOT

FOLDERS = (ROOT / "k8s" / "base" / "envoy", ROOT / "k8s" / "components" / "mtls" / "envoy")


def made(folder: Path) -> Mapping[str, str]:
    """Return a folder's files by name, as its edge.json says them. Raises Misuse."""
    edge = layout.read(folder / "edge.json")
    return {"envoy.json": bootstrap.written(bootstrap.static(edge)), **certificates.files(edge)}


def main() -> int:
    """Write the files of both folders."""
    for folder in FOLDERS:
        for name, text in made(folder).items():
            (folder / name).write_text(text, encoding="utf-8")
        print(f"wrote {folder.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
