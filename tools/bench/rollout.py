"""Rolls every service under load, as Kubernetes does, and counts the requests that failed: none may.

The stores of what is rolled are on Spanner's emulator, where a service may have several replicas. They listen on one
port of addresses 127.0.0.x of their own, and a name server tells clients those that are ready, as it does for a
headless Service. A Deployment's next replica serves before the last one gets SIGTERM; the gateway's edge is a
StatefulSet, whose replicas are replaced one after the other, each with its spool. All gRPC is mutual TLS.

There are two clusters, since the emulator lets one transaction run at a time: in the first one the services behind the
gateway are rolled, which itself is one process on SQLite; in the second one the edges are, with no work behind them.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from trunkline_cli.services import COMMANDS
from trunkline_cli.suite import spanner, web, webhooks
from trunkline_cli.suite.processes import Launched, Suite, SuiteError
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_cli.suite.seed import SeededTenant, api, seed_tenant

from tools.bench import Target, report
from tools.bench.traffic.names import Names

FOLDER = Path("build/bench/rollout")
SILENCE = Path("tests/data/calls/silence.wav")
TARGETS = {"rollout_failed_requests": Target("<", 1)}
NOTICE_SECONDS = 1.0
READY_SECONDS = 120.0
SETTLED_SECONDS = 300.0
# Whom each service calls.
_CALLS = {
    "gateway": ("tenant", "audio", "ai"),
    "worker": ("gateway", "tenant", "audio", "ai"),
    "tenant": ("tenant",),
    "audio": ("tenant",),
    "ai": ("tenant",),
}
BEHIND = ("tenant", "audio", "ai", "worker")
"""What is rolled in the first cluster."""


@dataclass(frozen=True)
class Plan:
    """A cluster: its processes in the order in which they start, those that are rolled, those with Spanner's store."""

    processes: tuple[str, ...]
    rolled: tuple[str, ...]
    on_spanner: tuple[str, ...]
    finished: bool
    """Whether somebody works on the events, so that they get done."""


# The worker is ready once a gateway answers it.
SERVICES = Plan(
    ("tenant", "audio", "ai", "gateway", "worker"), BEHIND, ("tenant", "audio", "ai"), finished=True
)
EDGES = Plan(("tenant", "gateway", "gateway"), ("gateway",), ("gateway",), finished=False)


@dataclass
class Replica:
    """One process of a service, and the address of its own."""

    service: str
    host: str
    process: Launched


@dataclass
class Told:
    """What senders and readers were told: each failure in words, and the calls that were acknowledged."""

    failed: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    read: int = 0


class Replicas:
    """The suite as a cluster runs it: replicas that come and go behind names."""

    def __init__(self, suite: Suite, names: Names) -> None:
        self.suite = suite
        self.running: list[Replica] = []
        self._names = names
        self._ready: list[Replica] = []
        self._numbers = itertools.count(2)

    def hosts(self, service: str) -> list[str]:
        """Return the addresses of a service's ready replicas."""
        return [replica.host for replica in self._ready if replica.service == service]

    def edge_url(self, host: str) -> str:
        """Return where an edge of that address serves HTTP."""
        return f"http://{host}:{_port(self.suite.http)}"

    def spawn(self, service: str, host: str = "") -> Replica:
        """Start a replica without waiting, by default at an address that none had."""
        host = host or f"127.0.0.{next(self._numbers)}"
        log = self.suite.folder / "log" / f"{service}-{host}.log"
        with log.open("ab") as file:
            process = self.suite.launch(COMMANDS[service], self._environment(service, host), file)
        replica = Replica(service, host, process)
        self.running.append(replica)
        return replica

    def wait_ready(self, replica: Replica) -> None:
        """Return when a replica serves and its name stands for it. Raises SuiteError."""
        url = f"http://{replica.host}:{_port(self.suite.metrics[replica.service])}/readyz"
        until = time.monotonic() + READY_SECONDS
        while not _answers(url):
            if replica.process.poll() is not None or time.monotonic() > until:
                raise SuiteError(f"{replica.service} is not ready:\n{self.log_end(replica)}")
            time.sleep(0.05)
        self._ready.append(replica)
        self._tell(replica.service)

    def stop(self, replica: Replica) -> None:
        """Take a replica's name away and send SIGTERM at once, as Kubernetes does; wait for its end.

        Raises SuiteError when it does not end cleanly.
        """
        self._ready.remove(replica)
        self._tell(replica.service)
        replica.process.send_signal(signal.SIGTERM)
        code = replica.process.wait(60)
        self.running.remove(replica)
        if code != 0:
            raise SuiteError(f"{replica.service} ended with {code}:\n{self.log_end(replica)}")

    def roll(self, service: str) -> None:
        """Replace every replica of a service by a new one."""
        for old in [replica for replica in self._ready if replica.service == service]:
            if service == "gateway":  # a StatefulSet's: the next one has its place, and its spool
                self.stop(old)
                self.wait_ready(self.spawn(service, old.host))
            else:
                self.wait_ready(self.spawn(service))
                self.stop(old)

    def close(self) -> None:
        """End what runs."""
        for replica in self.running:
            replica.process.terminate()
        for replica in self.running:
            try:
                replica.process.wait(20)
            except subprocess.TimeoutExpired:
                replica.process.send_signal(signal.SIGKILL)
                replica.process.wait(20)
        self.running.clear()

    def log_end(self, replica: Replica) -> str:
        """Return the last lines of a replica's log."""
        path = self.suite.folder / "log" / f"{replica.service}-{replica.host}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:])

    def _tell(self, service: str) -> None:
        self._names.set(_name(service), self.hosts(service))

    def _environment(self, service: str, host: str) -> dict[str, str]:
        suite, prefix = self.suite, f"TRUNKLINE_{service.upper()}"
        own = {f"{prefix}_METRICS_ADDRESS": f"{host}:{_port(suite.metrics[service])}"}
        own[f"{prefix}_DRAIN_NOTICE_SECONDS"] = str(NOTICE_SECONDS)
        for other in _CALLS[service]:
            target = self._names.target(_name(other), _port(suite.grpc[other]))
            own[f"{prefix}_{other.upper()}_ADDRESS"] = target
        if service in suite.grpc:
            own[f"{prefix}_GRPC_ADDRESS"] = f"{host}:{_port(suite.grpc[service])}"
        if service == "gateway":
            own[f"{prefix}_HTTP_ADDRESS"] = f"{host}:{_port(suite.http)}"
            own[f"{prefix}_SPOOL_PATH"] = str(suite.folder / f"{host}.spool")
            own[f"{prefix}_SOURCE_CACHE"] = str(suite.folder / f"{host}.sources")
        if service == "tenant":
            own[f"{prefix}_LIST_STALENESS_SECONDS"] = "0"  # what is recorded is looked for at once
        if service == "audio":
            own[f"{prefix}_SCRATCH_FOLDER"] = str(suite.folder / f"{host}-scratch")
        return {**suite.environment(), **own}


class Rollout:
    """A cluster with a tenant, and load on it."""

    def __init__(
        self, plan: Plan, replicas: Replicas, tenant: SeededTenant, recordings: RecordingServer
    ) -> None:
        self.plan = plan
        self.replicas = replicas
        self.tenant = tenant
        self._recordings = recordings
        self._numbers = itertools.count(910_000_000)

    @contextmanager
    def loaded(self, senders: int = 1, readers: int = 1, every_seconds: float = 0.8) -> Iterator[Told]:
        """Post calls with recordings and read lists, over kept connections, until the block ends."""
        told, enough = Told(), threading.Event()
        works = [self._send] * senders + [self._read] * readers
        threads = [
            threading.Thread(target=self._keep_on, args=(work, told, enough, every_seconds)) for work in works
        ]
        for thread in threads:
            thread.start()
        try:
            yield told
        finally:
            enough.set()
            for thread in threads:
                thread.join()

    def calls(self) -> list[dict[str, Any]]:
        """Return the tenant's calls."""
        return self._list("calls")

    def events(self) -> list[dict[str, Any]]:
        """Return the tenant's events."""
        return self._list("events")

    def wait_settled(self, told: Told) -> list[dict[str, Any]]:
        """Return the events once there is one for each acknowledged call, done where the plan says so.

        Raises SuiteError.
        """
        until = time.monotonic() + SETTLED_SECONDS
        while True:
            events = self.events()
            states = [event["state"] for event in events]
            done = not self.plan.finished or set(states) <= {"EVENT_STATE_DONE"}
            if len(states) >= len(told.acknowledged) and done:
                return events
            if time.monotonic() > until:
                counts = {state: states.count(state) for state in set(states)}
                raise SuiteError(f"{len(told.acknowledged)} were acknowledged, and the events are {counts}")
            time.sleep(0.5)

    def _keep_on(
        self,
        work: Callable[[httpx.Client, str, Told], httpx.Response],
        told: Told,
        enough: threading.Event,
        every_seconds: float,
    ) -> None:
        """Work over one connection for as long as its server keeps it, then over one to another that is ready."""
        turn = 0
        while not enough.is_set():
            hosts = self.replicas.hosts("gateway")
            url, turn = self.replicas.edge_url(hosts[turn % len(hosts)]), turn + 1
            with web.client(timeout=20) as client:
                while not enough.is_set():
                    try:
                        answer = work(client, url, told)
                    except httpx.HTTPError as error:
                        told.failed.append(f"{work.__name__} {url}: {error!r}")
                        break
                    enough.wait(every_seconds)
                    if answer.headers.get("connection") == "close":
                        break

    def _send(self, client: httpx.Client, url: str, told: Told) -> httpx.Response:
        source, number = self.tenant.source("callrail"), str(next(self._numbers))
        self._recordings.files[number] = self._recordings.files[f"CAL{number}"] = SILENCE
        # A caller of its own: on the emulator, calls of one lead would wait for each other.
        caller = f"+1404555{int(number) % 10_000:04}"
        payload = webhooks.callrail_call(source, number, number=caller, duration="6", recording_duration=6)
        hook = webhooks.callrail(source, "post_call", payload)
        there = httpx.URL(hook.url).copy_with(host=httpx.URL(url).host)
        answer = client.post(there, content=hook.body, headers=hook.headers)
        if answer.status_code == 202:
            told.acknowledged.append(f"CAL{number}")
        else:
            told.failed.append(f"send {url}: {answer.status_code} {answer.text[:200]}")
        return answer

    def _read(self, client: httpx.Client, url: str, told: Told) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tenant.api_key}"}
        answer = client.get(f"{url}/v1/tenants/{self.tenant.name}/calls?pageSize=2", headers=headers)
        if answer.status_code == 200:
            told.read += 1
        else:
            told.failed.append(f"read {url}: {answer.status_code} {answer.text[:200]}")
        return answer

    def _list(self, what: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        token = ""
        url = self.replicas.edge_url(self.replicas.hosts("gateway")[0])
        with api(url, self.tenant.api_key) as client:
            while True:
                answer = client.get(
                    f"/v1/tenants/{self.tenant.name}/{what}", params={"pageSize": 500, "pageToken": token}
                ).raise_for_status()
                items += answer.json().get(what, [])
                token = answer.json().get("nextPageToken", "")
                if not token:
                    return items


@contextmanager
def cluster(plan: Plan, folder: Path, stores: dict[str, str], launch: Any = None) -> Iterator[Rollout]:
    """Start a plan's processes on these stores, with a tenant. Raises SuiteError."""
    env = {
        "TRUNKLINE_AUDIO_FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        "TRUNKLINE_AI_ENGINE": "tests.standins.instant_ai:create",
        "TRUNKLINE_AUDIO_ENGINE": "tests.standins.instant_audio:create",
        "TRUNKLINE_WORKER_WORKER_CONCURRENCY": "2",  # more would be in each other's way on the emulator
        "TRUNKLINE_GATEWAY_API_PER_SECOND": "10000",
        "TRUNKLINE_GATEWAY_API_BURST": "10000",
        **stores,
    }
    given = {"launch": launch} if launch is not None else {}
    suite = Suite(folder, free_ports=True, env=env, mtls=True, **given)
    with Names() as names, RecordingServer() as recordings:
        replicas = Replicas(suite, names)
        try:
            started = [replicas.spawn(name) for name in plan.processes]
            for replica in started:
                replicas.wait_ready(replica)
            url = replicas.edge_url(replicas.hosts("gateway")[0])
            tenant = seed_tenant(url, suite.operator_token, "acme", recordings.url)
            for source in tenant.sources:
                recordings.tokens.add(source.credential)
                recordings.accounts[source.account] = source.secret
            yield Rollout(plan, replicas, tenant, recordings)
        finally:
            replicas.close()


def failed_requests(plans: Sequence[Plan] = (SERVICES, EDGES)) -> list[str]:
    """Roll services under load, on an emulator of their own; tell of each request that failed. Raises SuiteError."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    failed: list[str] = []
    with ExitStack() as stack:
        stores = spanner.stores(stack, "spanner", FOLDER, lambda _text: None)
        for number, plan in enumerate(plans):
            wanted = {f"TRUNKLINE_{name.upper()}_STORE_URL" for name in plan.on_spanner}
            own = {name: value for name, value in stores.items() if name in wanted}
            with cluster(plan, FOLDER / str(number), own) as rollout:
                with rollout.loaded() as told:
                    for service in plan.rolled:
                        rollout.replicas.roll(service)
                rollout.wait_settled(told)
            failed += told.failed
    return failed


def main() -> None:
    """Print the figure."""
    failed = failed_requests()
    for line in failed[:10]:
        print(f"  {line}")
    report("rollout", {"rollout_failed_requests": float(len(failed))}, TARGETS)


def _name(service: str) -> str:
    return f"{service}.rollout.test"


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _answers(url: str) -> bool:
    try:
        return web.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
