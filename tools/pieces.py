"""Makes the vectors of pieces of words from the wheel of wordllama 0.4.0.post1: `python -m tools.pieces WHEEL`.

Run by hand, once: the file is kept, since another linear algebra library may turn the axes. Of 32,000 pieces it keeps
those that canonical text can contain, and of 256 axes the 128 along which they differ most, in 8 bits.
"""

from __future__ import annotations

import io
import json
import re
import struct
import sys
import zipfile

import numpy as np
from trunkline_ai.engines.local.learned.meanings import BEGINS, PIECES

_VECTORS = "wordllama/weights/l2_supercat_256.safetensors"
_NAMES = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
_AXES = 128
_MOST = 127


def main() -> None:
    """Write the file."""
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        content = wheel.read(_VECTORS)
        numbers: dict[str, int] = json.loads(wheel.read(_NAMES))["model"]["vocab"]
    (length,) = struct.unpack("<Q", content[:8])
    (told,) = json.loads(content[8 : 8 + length]).values()
    types = {"F16": np.float16, "F32": np.float32}
    flat = np.frombuffer(content[8 + length :], types[told["dtype"]])
    every = flat.reshape(told["shape"]).astype(np.float64)
    named = {name.replace("▁", BEGINS): number for name, number in numbers.items()}
    kept = sorted(name for name in named if re.fullmatch(rf"{re.escape(BEGINS)}?[a-z0-9]+", name))
    vectors = every[[named[name] for name in kept]]
    vectors -= vectors.mean(0)
    vectors = vectors @ np.linalg.svd(vectors, full_matrices=False)[2][:_AXES].T
    scale = np.abs(vectors).max(1) / _MOST
    out = io.BytesIO()
    np.savez(
        out,
        pieces=np.frombuffer("\n".join(kept).encode(), dtype=np.uint8),
        vectors=np.round(vectors / scale[:, None]).astype(np.int8),
        scale=scale.astype(np.float32),
    )
    PIECES.write_bytes(out.getvalue())  # type: ignore[attr-defined]
    print(f"{len(kept)} pieces, {out.tell():,} bytes")


if __name__ == "__main__":
    main()
