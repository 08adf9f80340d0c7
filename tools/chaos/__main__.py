"""`make chaos ROUNDS=n SEED=n`: kills at random moments under load, then every promise is checked; 1: one broke."""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trunkline_cli.suite.processes import Launched, Suite, launched
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_cli.suite.seed import seed_tenant

from tools.bench.calls import INSTANT, tone
from tools.chaos.clients import Clients
from tools.chaos.conversations import Conversations
from tools.chaos.stored import Stored, read_stored, waiting
from tools.chaos.strikes import VICTIMS, Striker, planned
from tools.chaos.verdict import Verdict, judge

FOLDER = Path("build/chaos")
CLIENTS = 8
STRIKING_SECONDS = 3.0
ACKNOWLEDGED_SECONDS = 60.0
DRAINED_SECONDS = 180.0
# Leases and breakers short, so that what a kill interrupts goes on within the run.
SETTINGS = {
    **INSTANT,
    "TRUNKLINE_TENANT_RATE_TENANT_PER_HOUR": "0",
    "TRUNKLINE_WORKER_LEASE_SECONDS": "2",
    "TRUNKLINE_WORKER_BREAKER_SECONDS": "0.5",
}


@dataclass
class Outcome:
    """What a run showed."""

    verdict: Verdict
    kills: int
    acknowledged: int
    stored: int


def chaos(rounds: int, seed: int, folder: Path, launch: Callable[..., Launched] = launched) -> Outcome:
    """Run the rounds; processes, which `launch` starts, are ended whatever happens."""
    shutil.rmtree(folder, ignore_errors=True)
    suite = Suite(folder, free_ports=True, launch=launch, env=SETTINGS)
    file = folder / "tone.wav"
    file.write_bytes(tone(0.2))
    codes: dict[str, int] = {}
    with RecordingServer(each_differs=True) as recordings:
        try:
            suite.start()
            tenants = [
                seed_tenant(suite.http_url, suite.operator_token, name, recordings.url)
                for name in ("acme", "globex")
            ]
            recordings.tokens.update(source.credential for tenant in tenants for source in tenant.sources)
            conversations = Conversations(tenants, random.Random(f"words {seed}"))
            striker = Striker(suite)
            with Clients(
                conversations, recordings, file, random.Random(f"clients {seed}"), CLIENTS
            ) as clients:
                strikes = random.Random(f"strikes {seed}")
                for number in range(rounds):
                    killed = striker.round(planned(strikes, number, STRIKING_SECONDS))
                    left = sum(waiting(folder).values())
                    _say(
                        f"round {number + 1}/{rounds}: killed {killed}; "
                        f"{clients.acknowledged} acknowledged of {clients.attempts}, {left} wait"
                    )
                if not clients.finish(ACKNOWLEDGED_SECONDS):
                    striker.faults.append(
                        f"clients were still refused {ACKNOWLEDGED_SECONDS:.0f} s after the end"
                    )
            wrong = clients.refused + striker.faults + _drained(suite)
        finally:
            codes = suite.stop()
    wrong += [f"{name} stopped with {code}" for name, code in codes.items() if code]
    stored: Stored = read_stored(folder)
    verdict = judge(conversations.made, stored)
    verdict.wrong += wrong
    return Outcome(verdict, striker.kills, clients.acknowledged, len(stored.receipts))


def _drained(suite: Suite) -> list[str]:
    """Wait until nothing waits; say what still does."""
    until = time.monotonic() + DRAINED_SECONDS
    while any((left := waiting(suite.folder)).values()):
        ended = [name for name in VICTIMS if suite.running[name].poll() is not None]
        if ended or time.monotonic() > until:
            return [f"after the last restart still waiting: {left}", *(f"{name} ended" for name in ended)]
        time.sleep(0.1)
    return []


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run as asked; the last line says it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    folder = FOLDER / str(seed)
    _say(f"seed {seed}")
    began = time.monotonic()
    outcome = chaos(asked.rounds, seed, folder)
    verdict = outcome.verdict
    for sentence in list(verdict.sentences())[:50]:
        _say(sentence)
    if verdict.sound:
        shutil.rmtree(folder)
    else:
        _say(f"stores and logs are kept in {folder}")
    print(
        f"chaos: {asked.rounds} rounds, {outcome.kills} kills, {outcome.acknowledged} acknowledged, "
        f"{outcome.stored} stored, {verdict.recorded} recorded, {verdict.dead} dead letters, "
        f"{len(verdict.lost)} lost, {len(verdict.doubled)} doubled, {len(verdict.wrong)} wrong, "
        f"{time.monotonic() - began:.0f} s, seed {seed}"
    )
    return 0 if verdict.sound else 1


if __name__ == "__main__":
    sys.exit(main())
