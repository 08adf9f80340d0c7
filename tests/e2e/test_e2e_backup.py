"""A backup under load, a loss of everything after it, a restore: what was acknowledged before is there, each once."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
from trunkline_cli.suite.processes import COMMANDS, Suite
from trunkline_cli.suite.recordings import RecordingServer
from trunkline_cli.suite.seed import api, seed_tenant

from tests.forked import forked, launch
from tools.bench.calls import INSTANT, QUIET_LOGS, tone
from tools.chaos.clients import Clients
from tools.chaos.conversations import Conversation, Conversations
from tools.chaos.stored import read_stored, reading, waiting
from tools.chaos.verdict import judge

SERVICES = ("gateway", "tenant", "audio", "ai")
SETTINGS = {
    **INSTANT,
    **QUIET_LOGS,
    "TRUNKLINE_GATEWAY_DELETIONS_SECONDS": "0.2",
    # What was worked on as the backup was made waits for so long after the restore.
    "TRUNKLINE_WORKER_LEASE_SECONDS": "5",
}


def wait(look, what, seconds=60.0):
    until = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < until, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)


def command(folder, name, *arguments):
    given = [name, "--state", str(folder), *map(str, arguments)]
    return forked("trunkline_cli").run(given, os.environ, folder)


def acknowledged(conversations) -> list[Conversation]:
    """What was acknowledged wholly by now, as it is now."""
    copies = []
    for made in list(conversations.made):
        messages = [replace(message, receipts=list(message.receipts)) for message in made.messages]
        if messages and all(message.receipts for message in messages):
            copies.append(replace(made, messages=messages, number=""))  # leads are looked at as a whole
    return copies


def rows_of(folder, tenant):
    """Count the rows that name a tenant in any table, but for the tombstones."""
    found = {}
    for service in SERVICES:
        with reading(folder / f"{service}.db") as store:
            for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                columns = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
                if "tenant_id" in columns and table not in ("deleted_tenants", "tenants"):
                    query = f"SELECT count(*) FROM {table} WHERE tenant_id = ?"
                    found[f"{service}.{table}"] = store.execute(query, (tenant,)).fetchone()[0]
    return {table: count for table, count in found.items() if count}


@contextmanager
def running(folder):
    suite = Suite(folder, free_ports=True, launch=launch, env=SETTINGS)
    with RecordingServer() as recordings:
        try:
            suite.start()
            yield suite, recordings
        finally:
            suite.stop()


@pytest.mark.timeout(240)
def test_what_was_acknowledged_before_a_backup_is_there_once_after_everything_else_was_lost(tmp_path):
    folder, backup = tmp_path / "state", tmp_path / "backup"
    sound = tmp_path / "tone.wav"
    sound.write_bytes(tone(0.2))
    with running(folder) as (suite, recordings):
        operator = api(suite.http_url, suite.operator_token)
        tenants = [
            seed_tenant(suite.http_url, suite.operator_token, name, recordings.url)
            for name in ("acme", "globex", "doomed")
        ]
        recordings.tokens.update(source.credential for tenant in tenants for source in tenant.sources)
        doomed = Conversations(tenants[2:], random.Random(1))
        with Clients(doomed, recordings, sound, random.Random(2), 2) as load:
            wait(lambda: load.acknowledged >= 10, "webhooks of the doomed tenant")
            assert load.finish(30)
        wait(lambda: rows_of(folder, "doomed").get("audio.recordings"), "a recording of the doomed tenant")
        conversations = Conversations(tenants[:2], random.Random(3))
        with Clients(conversations, recordings, sound, random.Random(4), 6) as load:
            wait(lambda: load.acknowledged >= 90, "webhooks to be acknowledged")
            before = acknowledged(conversations)
            made = command(folder, "backup", "--to", backup)
            assert made.returncode == 0, made.stderr
            until = load.acknowledged + 30
            operator.delete("/v1/tenants/doomed", params={"force": "true"}).raise_for_status()
            wait(lambda: load.acknowledged >= until, "webhooks after the backup")
            wait(
                lambda: operator.get("/v1/tenants/doomed").json().get("purgeTime"),
                "the tenant to be gone everywhere",
            )
            refused = command(folder, "restore", backup)
            assert refused.returncode == 1
            assert "stop the suite first" in refused.stderr
            for name in COMMANDS:
                suite.kill(name)
        restored = command(folder, "restore", backup)
        assert restored.returncode == 0, restored.stderr
        assert "doomed" in restored.stdout
        assert not rows_of(folder, "doomed")
        assert not (folder / "blobs" / "t.doomed").exists()

        suite.start()
        wait(lambda: not any(waiting(folder).values()), "all jobs to be done again")
        answer = operator.get("/v1/tenants/doomed")
        assert answer.json()["state"] == "TENANT_STATE_DELETED"
        assert set(suite.stop().values()) == {0}
    assert len(before) > 15
    _judge(before, read_stored(folder))
    assert not rows_of(folder, "doomed")


def _judge(before, stored):
    counted = Counter(receipt.receipt_id for receipt in stored.receipts)
    assert max(counted.values()) == 1
    assert max(Counter((call.tenant, call.provider_call_id) for call in stored.calls).values()) == 1
    assert stored.leads == stored.leads_calls
    ids = {receipt for made in before for message in made.messages for receipt in message.receipts}
    receipts = [receipt for receipt in stored.receipts if receipt.receipt_id in ids]
    events = {event for receipt in receipts for event in receipt.events}
    calls = {(made.tenant, made.provider_call_id) for made in before}
    mine = replace(
        stored,
        receipts=receipts,
        events=[event for event in stored.events if event.event_id in events],
        calls=[call for call in stored.calls if (call.tenant, call.provider_call_id) in calls],
        leads={},
        leads_calls={},
    )
    verdict = judge(before, mine)
    assert verdict.sound, list(verdict.sentences())
