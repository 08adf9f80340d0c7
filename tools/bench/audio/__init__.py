"""Bench `audio`: how fast a recording is transcribed on this machine's cores, and how well.

| keys | measured on | takes about, two cores |
|---|---|---|
| engine | the service's own parts over tests/data/calls and tools/samples/sounds.py | 2 minutes |
| language_accuracy | the same parts, over sentences that Pico reads, and `espeak-ng` if it is on the PATH | 1 minute |
| vad_hour_s, decode600_s | speech detection and decoding by themselves | 1 minute |
| overhead_ratio | the service as a process, beside faster-whisper without it | 1 minute |
| short_beside_long_s | the service as a process, with an hour under way | 1 minute |
| hour_min, hour_peak_mb | the service as a process, over an hour of mono sound | 5 to 10 minutes |
| upload_peak_mb | an upload of 512 MB through the gateway and the audio service | 1 minute |

The hour and the upload are measured only when they are named: `make bench audio KEYS=hour_min`. KEYS takes several
names, or `all`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from tools.bench import Target, report
from tools.bench.audio import engine, hour, languages, preparation, uploads

GROUPS: dict[tuple[str, ...], Callable[[], dict[str, float]]] = {
    ("engine",): engine.figures,
    ("language_accuracy",): languages.figures,
    ("vad_hour_s", "decode600_s"): preparation.figures,
    ("overhead_ratio",): hour.overhead,
    ("short_beside_long_s",): hour.short_beside_long,
    ("hour_min", "hour_peak_mb"): hour.figures,
    ("upload_peak_mb",): uploads.figures,
}
"""What measures each group of keys."""
LONG = ("hour_min", "hour_peak_mb", "upload_peak_mb")
TARGETS = {
    **engine.TARGETS,
    **uploads.TARGETS,
    "language_accuracy": Target(">=", 0.95),
    "vad_hour_s": Target("<", 6.0),
    "decode600_s": Target("<", 1.0),
    "overhead_ratio": Target("<", 1.15),
    "short_beside_long_s": Target("<", 30.0),
    "hour_min": Target("<", 10.0),
    "hour_peak_mb": Target("<", 900.0),
}


def main(keys: Sequence[str] = ()) -> None:
    """Take the figures of these keys, of all but the long ones without any, and report them. Raises ValueError."""
    known = [key for group in GROUPS for key in group]
    wanted = set(known) if "all" in keys else set(keys) or set(known) - set(LONG)
    if unknown := wanted - set(known):
        raise ValueError(f"audio has no key {', '.join(sorted(unknown))}; it has all, {', '.join(known)}")
    figures = {"load_before": os.getloadavg()[0]}
    for group, measure in GROUPS.items():
        if wanted.intersection(group):
            figures |= measure()
    report("audio", figures, TARGETS)
