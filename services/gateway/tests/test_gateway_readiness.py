"""Readiness: a gateway whose store is away still takes webhooks, and says so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from trunkline_gateway.api.readiness import Readiness
from trunkline_gateway.config import GatewayConfig
from trunkline_runtime.testing import KEY_FOLDER


def made(lines=(), can_take=True):
    health = SimpleNamespace(serving=True, missing=[], problems=list)
    inbox = SimpleNamespace(can_take=can_take, describe=lambda: list(lines))
    return health, Readiness(health, inbox)


def test_it_follows_health_and_tells_more():
    _, readiness = made(["spool: 3 receipts"])
    assert readiness() == (True, "ok\nspool: 3 receipts")


def test_it_tells_what_the_server_serves_without():
    health, readiness = made(["spool: 3 receipts"])
    health.problems = lambda: ["certificate: it ends within a day"]
    assert readiness() == (True, "ok\ncertificate: it ends within a day\nspool: 3 receipts")


def test_before_the_store_was_ever_there_it_is_not_ready():
    health, readiness = made()
    health.serving, health.missing = False, ["store"]
    assert readiness() == (False, "not ready: store")


@pytest.mark.parametrize(("missing", "can_take", "ready"), [
    (["store"], True, True), (["store"], False, False), (["schema", "store"], True, False),
])  # fmt: skip
def test_without_its_store_it_is_ready_as_long_as_the_spool_takes_receipts(missing, can_take, ready):
    health, readiness = made(can_take=can_take)
    assert readiness()[0]
    health.serving, health.missing = False, missing
    assert readiness()[0] is ready


def test_on_its_way_out_it_is_not_ready():
    _, readiness = made()
    readiness.stopping = True
    assert readiness() == (False, "stopping")


@pytest.mark.parametrize(("store", "given", "expected"), [
    ("sqlite:////data/gateway.db", None, "/data/gateway.db.spool"),
    ("spanner+spanner:///projects/p/instances/i/databases/d", None, "var/gateway.spool"),
    ("sqlite:////data/gateway.db", Path("/other/spool"), "/other/spool"),
])  # fmt: skip
def test_the_spool_is_where_it_was_said_or_beside_the_store(store, given, expected):
    config = GatewayConfig(keys=KEY_FOLDER, store_url=store, spool_path=given)
    assert config.spool_folder() == Path(expected)


def test_while_webhooks_are_refused_it_is_not_ready_although_the_store_can_be_read():
    why = ["database or disk is full"]
    health = SimpleNamespace(serving=True, missing=[], problems=list)
    inbox = SimpleNamespace(can_take=False, describe=lambda: [f"webhooks: refused (503): {why[0]}"])
    readiness = Readiness(health, inbox, lambda: why[0])
    told = "not ready: webhooks are refused\nwebhooks: refused (503): database or disk is full"
    assert readiness() == (False, told)
    why[0] = ""
    assert readiness()[0]
