"""What the pipeline's benches share: a suite with stand-in engines, calls to post, and when they were recorded."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from trunkline_cli.suite import webhooks
from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_cli.suite.seed import SeededTenant, seed_tenant

from tools.bench.traffic.load import raw_request

INSTANT = {
    "TRUNKLINE_AUDIO_ENGINE": "tests.standins.instant_audio:create",
    "TRUNKLINE_AI_ENGINE": "tests.standins.instant_ai:create",
    "TRUNKLINE_AUDIO_FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
}
QUIET_LOGS = {
    f"TRUNKLINE_{name}_LOG_LEVEL": "warning" for name in ("GATEWAY", "TENANT", "AUDIO", "AI", "WORKER")
}
# One source sends more than any honest one does: what is measured is not the ceiling.
NO_CEILING = {
    "TRUNKLINE_TENANT_RATE_TENANT_PER_HOUR": "0",
} | {
    f"TRUNKLINE_GATEWAY_{limit}_{name}": most
    for limit, most in (("CEILING", "1000000"), ("TENANT_BYTES", "1000000000"))
    for name in ("PER_SECOND", "BURST")
}
# The name of an analysis is among the facts only once the results are recorded.
_NOT_ADMITTED = "select max(receipts.seq) - max(cursors.seq) from receipts, cursors where name = 'admission'"
_CONNECTIONS = 8
_RECORDED = "select provider_call_id, update_time from calls where instr(facts, ?) > 0 and tenant_id = ?"


class NotRecorded(Exception):
    """Calls were not recorded in time; the text says how many and shows the worker's log."""


def tone(seconds: float = 1.0, rate: int = 8000) -> bytes:
    """A mono telephone WAV of that length."""
    samples = [int(8000 * math.sin(n * 2 * math.pi * 440 / rate)) for n in range(int(seconds * rate))]
    body = io.BytesIO()
    with wave.open(body, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return body.getvalue()


@dataclass
class Bench:
    """A running suite, its tenants, and the providers' recordings."""

    suite: Suite
    recordings: RecordingServer
    file: Path
    http: httpx.Client
    tenants: dict[str, SeededTenant] = field(default_factory=dict)

    def tenant(self, name: str) -> SeededTenant:
        """A tenant, made when it is first asked for."""
        if name not in self.tenants:
            made = seed_tenant(self.suite.http_url, self.suite.operator_token, name, self.recordings.url)
            for source in made.sources:
                self.recordings.tokens.add(source.credential)
                self.recordings.accounts[source.account] = source.secret
            self.tenants[name] = made
        return self.tenants[name]

    def call(self, tenant: str, call_id: str) -> webhooks.Webhook:
        """The post_call of a call whose recording can be fetched."""
        source = self.tenant(tenant).source("callrail")
        resource = f"CAL{call_id}"
        self.recordings.files[call_id] = self.recordings.files[resource] = self.file
        payload = webhooks.callrail_call(source, call_id, number=f"+1555{int(call_id) % 10**7:07}")
        return webhooks.callrail(source, "post_call", payload)

    def post(self, webhook: webhooks.Webhook) -> float:
        """Post it; the time of its acknowledgement (Unix seconds)."""
        answer = self.http.post(webhook.url, content=webhook.body, headers=webhook.headers)
        now = time.time()
        answer.raise_for_status()
        return now

    def post_all(self, hooks: Sequence[webhooks.Webhook]) -> float:
        """Post many from a client that costs little; when the first of them was received (Unix seconds)."""
        known = self._look("select coalesce(max(seq), 0) from receipts")
        file = self.suite.folder / "requests.json"
        file.write_text(json.dumps([raw_request(hook, hook.url).decode("latin-1") for hook in hooks]))
        host, port = self.suite.http.split(":")
        command = [
            sys.executable,
            "-m",
            "tools.bench.traffic.load",
            host,
            port,
            str(_CONNECTIONS),
            "600",
            str(file),
        ]
        done = json.loads(
            subprocess.run([*command, "once"], capture_output=True, text=True, check=True).stdout
        )
        assert (done["answered"], done["errors"]) == (len(hooks), 0), done
        return self._look("select min(received_at) from receipts where seq > ?", known) / 1e6

    def wait_admitted(self, seconds: float = 60) -> None:
        """Return when every receipt is linked to its event."""
        until = time.monotonic() + seconds
        while self._look(_NOT_ADMITTED):
            if time.monotonic() > until:
                raise NotRecorded(f"receipts were not admitted in {seconds} s")
            time.sleep(0.05)

    def _look(self, query: str, *parameters: object) -> float:
        file = f"file:{self.suite.folder / 'gateway.db'}?mode=ro"
        with closing(sqlite3.connect(file, uri=True)) as store:
            return float(store.execute(query, parameters).fetchone()[0])

    @contextmanager
    def calls_of(self, tenant: str) -> Iterator[Callable[[], dict[str, float]]]:
        """Look into the tenant service's store: calls with their analysis, and when written (Unix seconds)."""
        store = sqlite3.connect(
            f"file:{self.suite.folder / 'tenant.db'}?mode=ro", uri=True, isolation_level=None
        )
        try:
            yield lambda: {
                name.removeprefix("CAL"): at / 1e6
                for name, at in store.execute(_RECORDED, (b"/analyses/", tenant))
            }
        finally:
            store.close()

    def wait_recorded(self, tenant: str, calls: Collection[str], seconds: float, pause: float = 0.1) -> float:
        """Return the time at which all of these calls are seen recorded. Raises NotRecorded."""
        until = time.monotonic() + seconds
        with self.calls_of(tenant) as look:
            while True:
                found = look()
                if all(call in found for call in calls):
                    return time.time()
                if time.monotonic() > until:
                    left = sum(call not in found for call in calls)
                    log = self.suite.log_end("worker")
                    raise NotRecorded(f"{left} of {len(calls)} calls not recorded in {seconds} s\n{log}")
                time.sleep(pause)


def processor_ms(bench: Bench) -> dict[str, float]:
    """Processor milliseconds that each process and its children have used; the bench's own under `bench`."""
    ticks = dict.fromkeys((*bench.suite.running, "bench"), 0)
    groups = {process.pid: name for name, process in bench.suite.running.items()}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile: its parent counts it
        own = stat.parent.name == str(os.getpid())
        name = "bench" if own else groups.get(int(fields[2]))
        if name is not None:
            ticks[name] += sum(map(int, fields[11:15]))
    return {name: count * 1000 / os.sysconf("SC_CLK_TCK") for name, count in ticks.items()}


@contextmanager
def running(folder: Path, env: Mapping[str, str], *names: str) -> Iterator[Bench]:
    """A suite in an empty folder under build/, with stand-in engines unless `env` says otherwise."""
    shutil.rmtree(folder, ignore_errors=True)
    suite = Suite(folder, free_ports=True, env={**INSTANT, **QUIET_LOGS, **NO_CEILING, **env})
    file = folder / "tone.wav"
    file.write_bytes(tone())
    with RecordingServer(each_differs=True) as recordings, httpx.Client(timeout=30) as http:
        try:
            suite.start(*names)
            yield Bench(suite, recordings, file, http)
        finally:
            suite.stop()


def percentile(values: Collection[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)]


def load() -> float:
    """How busy the machine is: runnable processes, a minute's average."""
    return os.getloadavg()[0]
