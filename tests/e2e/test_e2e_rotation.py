"""The rotations of docs/production.md, by their own commands: each takes effect, and nothing is lost meanwhile."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from trunkline_cli.suite import web
from trunkline_cli.suite.processes import Suite
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_cli.suite.seed import api, seed_tenant

from tests.e2e.conftest import World
from tests.e2e.documented import ROOT, Shell, commands
from tests.e2e.posting import small_call
from tests.forked import launch
from tools.bench.calls import INSTANT

_RESTART = "sudo systemctl restart "


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A suite of its own, as its keys change; its engines stand in, so that a restart takes no time."""
    suite = Suite(tmp_path_factory.mktemp("rotation"), free_ports=True, launch=launch, env=INSTANT)
    with RecordingServer() as recordings:
        try:
            suite.start()
            tenant = seed_tenant(suite.http_url, suite.operator_token, "acme", recordings.url)
            yield World(suite, recordings, [tenant])
        finally:
            codes = suite.stop()
    assert set(codes.values()) == {0}, codes


def rotate(world: World, folder: Path, name: str) -> None:
    """Run the commands of the rotation that writes the file `name`, one after the other as they are pasted.

    Restarts are made as systemd makes them: all stop, all start, and the next command does not wait until they serve.
    """
    text = "".join(
        block.text
        for block in commands(ROOT / "docs/production.md")
        if f"secrets/{name}" in block.text and "restart" in block.text
    )
    text = text.replace("/etc/trunkline/secrets", str(world.suite.folder))
    text = text.replace("127.0.0.1:9091", world.suite.metrics["tenant"])
    shell = Shell(folder)
    pieces = re.split(rf"(?m)^{_RESTART}(.*)\n", text)
    last: list[str] = []
    for script, restarted in zip(pieces[::2], pieces[1::2], strict=False):
        shell.run(script, {})
        last = [service.removeprefix("trunkline-") for service in restarted.split()]
        for service in last:
            world.suite.stop(service)
        for service in last:
            world.suite.spawn(service)
    for service in last:
        world.suite.wait_ready(service)


def operates(world: World, token: str) -> int:
    with api(world.suite.http_url, token) as operator:
        return operator.get("/v1/tenants").status_code


def works(world: World) -> None:
    """A webhook is taken and becomes a done event, with the secret that the source had from the start."""
    tenant = world.tenants[0]
    answer = world.wait(lambda: taken(world), "a webhook to be taken", 20)
    assert world.finished(tenant, answer.json()["receiptId"])


def taken(world: World) -> httpx.Response | None:
    try:
        answer = world.post(small_call(world, world.tenants[0].source("callrail")))
    except httpx.TransportError:
        return None
    return answer if answer.status_code == 202 else None


def test_the_operator_token(world, tmp_path):
    old = world.suite.operator_token
    rotate(world, tmp_path, "operator.token")
    new = (world.suite.folder / "operator.token").read_text().strip()
    assert new != old
    world.wait(lambda: operates(world, new) == 200, "the new token to be known", 10)
    world.wait(lambda: operates(world, old) == 401, "the old token to end", 10)
    works(world)


def test_the_secret_keys(world, tmp_path):
    kept = world.suite.folder / "secrets.key"
    old = kept.read_text().strip()
    rotate(world, tmp_path, "secrets.key")
    new = kept.read_text().strip()
    assert old not in new
    assert "," not in new
    assert "secrets_resealed" in (world.suite.folder / "log" / "tenant.log").read_text()
    # The gateway forgets what it knew, so that the tenant service must open the source's secrets anew.
    world.suite.stop("gateway")
    (world.suite.folder / "gateway.sources").unlink()
    world.suite.start("gateway")
    works(world)


def test_the_signing_keys(world, tmp_path):
    block = next(b for b in commands(ROOT / "docs/production.md") if "--rotate gateway" in b.text)
    script = block.text.replace("/var/lib/trunkline", str(world.suite.folder))
    kept = world.suite.folder / "keys" / "gateway.key"
    old = kept.read_text()
    Shell(tmp_path).run(script.replace("/opt/trunkline/venv/bin/python", sys.executable), {})
    assert kept.read_text() != old
    works(world)
    world.suite.stop("gateway", "worker")  # what comes back signs with the new key alone
    world.suite.start("gateway", "worker")
    works(world)
    key = {"authorization": f"Bearer {world.tenants[0].api_key}"}
    assert web.get(f"{world.suite.http_url}/v1/tenants/acme/calls", headers=key).status_code == 200
