"""What words mean, as vectors: words that are used alike are near, also those that no training text has.

The vectors are those of wordllama 0.4.0.post1 (MIT License, Copyright 2024 Lee Miller), whose authors trained them from
the token vectors of Llama 2 70B and other models; `tools/pieces.py` made the file from its wheel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources

import numpy as np
from numpy.typing import NDArray

PIECES = resources.files("trunkline_ai.engines.local") / "data" / "pieces.npz"
BEGINS = "^"
"""Stands before the first piece of a word."""
Vectors = NDArray[np.float32]


class Meanings:
    """Vectors of pieces of words; a word is cut into the longest pieces there are, from its beginning."""

    def __init__(self, pieces: Sequence[str], vectors: NDArray[np.int8], scale: Vectors) -> None:
        """`vectors`: a row a piece, to be multiplied by its `scale`."""
        self._numbers = {piece: number for number, piece in enumerate(pieces)}
        self._longest = max(map(len, pieces), default=0)
        self._vectors, self._scale = vectors, scale

    @classmethod
    def load(cls) -> Meanings:
        """Those that the package ships."""
        with resources.as_file(PIECES) as path, np.load(path, allow_pickle=False) as kept:
            pieces = kept["pieces"].tobytes().decode().split("\n")
            return cls(pieces, kept["vectors"], kept["scale"])

    @property
    def axes(self) -> int:
        """How long a vector is."""
        return int(self._vectors.shape[1])

    def pieces_of(self, word: str) -> list[int]:
        """The numbers of a word's pieces; letters that no piece has are left out."""
        marked = BEGINS + word
        number = self._numbers.get(marked)
        if number is not None:
            return [number]
        found: list[int] = []
        start = 0
        while start < len(marked):
            for end in range(min(len(marked), start + self._longest), start, -1):
                number = self._numbers.get(marked[start:end])
                if number is not None:
                    found.append(number)
                    break
            start = end if number is not None else start + 1
        return found

    def mean_of(self, weighted: Mapping[str, float]) -> Vectors:
        """The mean vector of words by their weights: zeros if there are none."""
        places: list[int] = []
        shares: list[float] = []
        for word, weight in weighted.items():
            pieces = self.pieces_of(word)
            places += pieces
            shares += [weight / max(len(pieces), 1)] * len(pieces)
        total = sum(weighted.values())
        if not places or not total:
            return np.zeros(self.axes, dtype=np.float32)
        share = np.array(shares, dtype=np.float32) * self._scale[places] / total
        mean: Vectors = share @ self._vectors[places].astype(np.float32)
        return mean
