"""How much a neighbour's flood moves a quiet tenant's p95 from webhook to recorded call.

Stand-in stages of 50 ms (the recording's fetch, the transcription, the analysis); the quiet tenant sends at a
constant rate whatever happens, first alone, then while another tenant's 10,000 events come in and are worked on; and
on further suites, whose ceiling is the shipped one, while that tenant sends over 64 connections all the time.
Times count from when a webhook was due to be sent, to the time at which its results were written.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trunkline_gateway.config import GatewayConfig

from tools.bench import Target, report
from tools.bench.calls import Bench, load, percentile, running
from tools.bench.traffic.load import send_each, start_flood

FOLDER = Path("build/bench/isolation")
RATE = 5.0
SECONDS = 60.0  # the flood is worked on for far longer; coming in, it takes a second or two
FLOOD = 10_000
FLOOD_CONNECTIONS = 8
INCOMING_SECONDS = 20.0
INCOMING_CONNECTIONS = 64
ROUNDS = 3  # the p95 of one round's 100 calls is decided by five of them
TARGETS = {"isolation_ratio": Target("<", 1.10), "incoming_ratio": Target("<", 1.10)}
STAGES = {
    "TRUNKLINE_AUDIO_ENGINE": "tests.standins.instant_audio:create_50ms",
    "TRUNKLINE_AI_ENGINE": "tests.standins.instant_ai:create_50ms",
}
CEILING = {
    f"TRUNKLINE_GATEWAY_{name.upper()}": str(GatewayConfig.__dataclass_fields__[name].default)
    for name in ("ceiling_per_second", "ceiling_burst")
}
_ids = itertools.count(600_000_000)


def quiet_calls(bench: Bench, seconds: float) -> list[float]:
    """Milliseconds from webhook to recorded of calls at the constant rate."""
    hooks = [
        (str(call), bench.call("quiet", str(call))) for call in itertools.islice(_ids, int(seconds * RATE))
    ]
    due: dict[str, float] = {}
    with ThreadPoolExecutor(8) as senders:
        begun = time.time()
        sent = []
        for place, (call, hook) in enumerate(hooks):
            due[call] = begun + place / RATE
            time.sleep(max(0.0, due[call] - time.time()))
            sent.append(senders.submit(bench.post, hook))
        for one in sent:
            one.result()
    bench.wait_recorded("quiet", list(due), 30)
    with bench.calls_of("quiet") as look:
        written = look()
    return [(written[call] - at) * 1000 for call, at in due.items()]


def incoming() -> dict[str, float]:
    """Alone, then while the flood is coming in, on suites as they are shipped; the calls of all rounds together."""
    alone: list[float] = []
    flooded: list[float] = []
    answered = above = 0
    for _ in range(ROUNDS):  # each on a new suite: what a flood leaves behind is worked on for minutes
        folder = FOLDER / "incoming"
        with running(folder, {**STAGES, **CEILING}) as bench:
            bench.recordings.seconds = 0.05
            quiet_calls(bench, 3)
            alone += quiet_calls(bench, INCOMING_SECONDS)
            print(f"alone: p95 {percentile(alone, 0.95):.0f} ms", file=sys.stderr, flush=True)
            flood = [bench.call("flood", str(call)) for call in itertools.islice(_ids, FLOOD)]
            client = start_flood(flood, INCOMING_CONNECTIONS, INCOMING_SECONDS + 1, folder)
            time.sleep(0.5)  # it has read what to send
            flooded += quiet_calls(bench, INCOMING_SECONDS)
            seen = json.loads(client.communicate(timeout=60)[0])
        answered, above = answered + seen["answered"], above + seen["errors"]
    return {
        "incoming_quiet_p95_ms": percentile(alone, 0.95),
        "incoming_p50_ms": percentile(flooded, 0.5),
        "incoming_p95_ms": percentile(flooded, 0.95),
        "incoming_ratio": percentile(flooded, 0.95) / percentile(alone, 0.95),
        "incoming_answered": answered,
        "incoming_above_ceiling": above,
    }


def main() -> None:
    """Alone, then flooded; then the same while the flood is still coming in."""
    figures = {"load_before": load()}
    with running(FOLDER, STAGES) as bench:
        bench.recordings.seconds = 0.05
        quiet_calls(bench, 3)  # connections open, caches warm
        alone = quiet_calls(bench, SECONDS)
        print(f"alone: p95 {percentile(alone, 0.95):.0f} ms", file=sys.stderr, flush=True)
        flood = [bench.call("flood", str(call)) for call in itertools.islice(_ids, FLOOD)]
        client = send_each(flood, FLOOD_CONNECTIONS, FOLDER)
        flooded = quiet_calls(bench, SECONDS)
        answered = json.loads(client.communicate(timeout=60)[0])
        with bench.calls_of("flood") as look:
            worked = len(look())
    assert answered["answered"] == FLOOD, answered
    assert worked < FLOOD, "the flood was over before the measurement"
    figures |= {
        "quiet_p50_ms": percentile(alone, 0.5),
        "quiet_p95_ms": percentile(alone, 0.95),
        "flooded_p50_ms": percentile(flooded, 0.5),
        "flooded_p95_ms": percentile(flooded, 0.95),
        "isolation_ratio": percentile(flooded, 0.95) / percentile(alone, 0.95),
        "flood_worked_per_s": worked / SECONDS,
        "flood_errors": answered["errors"],
    }
    figures |= incoming()
    report("isolation", figures, TARGETS)


if __name__ == "__main__":
    main()
