"""`trunkline up`: serve the suite until Ctrl-C, with two tenants to try it on; the facts stand in var/dev.json."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from trunkline_cli.backup.layout import PLAN
from trunkline_cli.screen import waiting
from trunkline_cli.suite import spanner
from trunkline_cli.suite.alone import addresses_are_free, only_one
from trunkline_cli.suite.keeping import Restarts, rotate_logs
from trunkline_cli.suite.processes import Suite, SuiteError
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_cli.suite.seed import SeededSource, SeededTenant, api, seed_tenant

FOLDER = Path("var")
CALLS = Path("tests/data/calls")
TENANTS = ("acme", "globex")


def dev_facts(suite: Suite, tenants: list[SeededTenant]) -> dict[str, object]:
    """What any tool needs to drive the running suite."""
    return {
        "http": suite.http_url,
        "grpc": suite.grpc,
        "metrics": suite.metrics,
        "operator_token": suite.operator_token,
        "tenants": [
            {
                "name": f"tenants/{tenant.name}",
                "api_key": tenant.api_key,
                "sources": [
                    {
                        key: value
                        for key, value in asdict(source).items()
                        if key in ("id", "provider", "secret", "url")
                    }
                    for source in tenant.sources
                ],
            }
            for tenant in tenants
        ],
    }


def seed_once(suite: Suite, recordings: RecordingServer) -> list[SeededTenant]:
    """Make the tenants at the first start and find them again later; let the stand-in know their credentials.

    Calls 1, 2, 3 ... at the provider (resource_id CAL1, recording RE1) have the sample recordings.
    """
    kept = suite.folder / "seed.json"
    if kept.exists():
        tenants = [
            SeededTenant(
                raw["name"], raw["api_key"], tuple(SeededSource(**source) for source in raw["sources"])
            )
            for raw in json.loads(kept.read_text())
        ]
        for tenant in tenants:
            with api(suite.http_url, tenant.api_key) as client:
                for source in tenant.sources:
                    name = f"/v1/tenants/{tenant.name}/sources/{source.id}"
                    client.patch(name, json={"apiBaseUrl": recordings.url}).raise_for_status()
    else:
        tenants = [
            seed_tenant(suite.http_url, suite.operator_token, name, recordings.url) for name in TENANTS
        ]
        _write_private(kept, json.dumps([asdict(tenant) for tenant in tenants]))
    for tenant in tenants:
        for source in tenant.sources:
            recordings.tokens.add(source.credential)
            recordings.accounts[source.account] = source.secret
    for number, sample in enumerate(json.loads((CALLS / "calls.json").read_text()), 1):
        for key in (str(number), f"CAL{number}", f"RE{number}"):
            recordings.files[key] = CALLS / sample["file"]
    return tenants


def up(store: str, *, mtls: bool = False) -> int:
    """Serve on a store (sqlite, spanner) until a signal; a process that ends by itself is started again.

    With `mtls`, gRPC is mutual TLS. Returns the exit code. Raises SuiteError.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: the terminal was closed
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        stack.enter_context(only_one(FOLDER))
        # An emulator forgets everything when it stops, so that nothing of an earlier run may be kept beside it.
        folder = FOLDER if store == "sqlite" else Path(stack.enter_context(TemporaryDirectory()))
        if (folder / PLAN).exists():
            raise SuiteError("a restore was interrupted; to finish it, run trunkline restore")
        with waiting() as say:
            stores = spanner.stores(stack, store, folder, say)
        return serve(folder, stores, stop, mtls=mtls)


def serve(folder: Path, stores: dict[str, str], stop: threading.Event, *, mtls: bool = False) -> int:
    """Serve on these stores until `stop` is set."""
    facts, written = FOLDER / "dev.json", False
    env = {"TRUNKLINE_AUDIO_FETCH_ALLOWED_NETWORKS": "127.0.0.0/8", **stores}
    suite = Suite(folder, env=env, mtls=mtls)
    with RecordingServer() as recordings:
        try:
            addresses_are_free(suite)
            rotate_logs(folder / "log")
            with waiting() as say:
                say("starting gateway, worker, tenant, audio, and ai", passing=True)
                suite.start()
                tenants = seed_once(suite, recordings)
            _write_private(facts, json.dumps(dev_facts(suite, tenants), indent=2) + "\n")
            written = True
            _print(suite, tenants)
            restarts = Restarts(suite, lambda line: print(line, flush=True))
            while not stop.wait(0.5):
                restarts.step()
                rotate_logs(folder / "log")
        finally:
            if written:
                facts.unlink(missing_ok=True)
            suite.stop()
    return 0


def _print(suite: Suite, tenants: list[SeededTenant]) -> None:
    print(f"HTTP      {suite.http_url}  (webhooks, /v1, /healthz, /readyz)")
    print(f"metrics   {suite.metrics_url()}  (/metrics, /readyz with reasons)")
    for name, address in suite.grpc.items():
        print(f"gRPC      {address}  {name}{'  (mutual TLS)' if suite.mtls else ''}")
    print(f"operator  {suite.operator_token}")
    for tenant in tenants:
        print(f"\ntenant    {tenant.name}\n  API key {tenant.api_key}")
        for source in tenant.sources:
            print(f"  {source.provider:9} {source.url}/<event_type>\n            secret {source.secret}")
    print(
        f"\nThese facts are also in var/dev.json. Logs are in {suite.folder}/log/. Press Ctrl-C to stop.",
        flush=True,
    )


def _write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all; serving does not end over it, so what cannot be written is said."""
    part = path.with_name(path.name + ".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        print(f"{path} was not written: {error.strerror}", file=sys.stderr)
