"""The words of the sample calls that recognition gets wrong."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from tools.packages import ROOT

CALLS = ROOT / "tests" / "data" / "calls"


async def word_errors() -> dict[str, float]:
    """Word error rates of the local speech engine over the English sample calls, by kind of recording."""
    # Only this part needs the audio service's libraries.
    from trunkline_audio.engines.whisper.settings import WhisperSettings  # noqa: PLC0415

    from tools.bench.audio.engine import Bench  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), WhisperSettings())
        async with bench.warm():
            await bench.words(json.loads((CALLS / "calls.json").read_text(encoding="utf-8")))
    return {name: round(rate, 4) for name, rate in bench.figures.items() if name.startswith("wer_")}


def word_errors_or_why_not() -> dict[str, float]:
    """Measure and print them; none, with the reason, where they cannot be measured."""
    if not (CALLS / "calls.json").exists():
        print("\nwords: no sample calls in tests/data/calls")
        return {}
    try:
        rates = asyncio.run(word_errors())
    except ImportError as error:
        print(f"\nwords: not measured, the audio service is not installed ({error})")
        return {}
    print("\n== words of the sample calls that are recognised wrongly (WER)")
    for name, rate in rates.items():
        print(f"  {name:<20} {rate:.3f}")
    return rates
