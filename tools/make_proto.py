"""Generates libs/contracts from protos/, so that CI can regenerate it and fail on any difference."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grpc_tools

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
VENDORED = ROOT / "third_party" / "protos"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"


def generate(out: Path) -> None:
    """Fill `out` with the packages `trunkline` and `buf`; what was there is replaced."""
    for package in ("trunkline", "buf"):
        shutil.rmtree(out / package, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(str(p.relative_to(PROTOS)) for p in PROTOS.rglob("*.proto"))
    # The protovalidate wheel keeps its own message runtime; the descriptors of the rules come from here.
    files.append("buf/validate/validate.proto")
    includes = [f"-I{path}" for path in (PROTOS, VENDORED, WELL_KNOWN)]
    plugins = Path(sys.executable).parent
    command = [
        sys.executable, "-m", "grpc_tools.protoc", *includes,
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}", f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}",
        *files,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    for stub in (*out.glob("buf/**/*_grpc.py*"),):
        stub.unlink()
    for folder in {p.parent for p in out.rglob("*_pb2.py")}:
        for level in (folder, *folder.parents):
            if level == out:
                break
            (level / "__init__.py").touch()
        (folder / "py.typed").touch()
    for path in out.rglob("*_pb2_grpc.py"):
        if "_pb2_grpc" in path.name and "rpc " not in _proto_text(out, path):
            path.unlink()
            path.with_suffix(".pyi").unlink(missing_ok=True)


def _proto_text(out: Path, generated: Path) -> str:
    """Return the source of a generated module; message-only files need no gRPC module."""
    relative = generated.relative_to(out)
    return (PROTOS / relative.parent / relative.name.replace("_pb2_grpc.py", ".proto")).read_text()


def main() -> int:
    """Generate, or with --check compare a fresh generation with what is committed."""
    target = ROOT / "libs" / "contracts"
    if "--check" not in sys.argv:
        generate(target)
        return 0
    fresh = ROOT / "build" / "contracts"
    generate(fresh)
    wanted = {
        p.relative_to(fresh): p.read_bytes() for p in fresh.rglob("*.py*") if "__pycache__" not in p.parts
    }
    there = {
        p.relative_to(target): p.read_bytes()
        for package in ("trunkline", "buf")
        for p in (target / package).rglob("*.py*")
        if "__pycache__" not in p.parts
    }
    different = sorted(str(p) for p in wanted.keys() | there.keys() if wanted.get(p) != there.get(p))
    for path in different:
        print(f"libs/contracts/{path} is not what protos/ generates: run `make proto`", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
