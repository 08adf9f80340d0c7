"""The command as a user runs it: quick help, exit codes, errors in plain words, and requests to the API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from trunkline_cli.costs import months

from tests.forked import forked


def run(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
    return forked("trunkline_cli").run(arguments, own | env, folder)


def run_anew(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Do the same with a Python of its own."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
    return subprocess.run(
        [sys.executable, "-m", "trunkline_cli", *arguments],
        env=own | env, cwd=folder, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


class Gateway:
    """Answers /v1 with what a test sets, and keeps what was asked."""

    def __init__(self) -> None:
        self.answers: dict[
            str, list[dict[str, Any]]
        ] = {}  # a path's answers in turn, the last one again and again
        self.status = 200
        self.asked: list[tuple[str, dict[str, Any]]] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlparse(self.path)
                self._answer(url.path, {k: v[0] for k, v in parse_qs(url.query).items()})

            def do_POST(self) -> None:
                self._answer(self.path, json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _answer(self, path: str, given: dict[str, Any]) -> None:
                gateway.asked.append((path, given | {"key": self.headers["authorization"]}))
                left = gateway.answers[path]
                body = json.dumps(left.pop(0) if len(left) > 1 else left[0]).encode()
                self.send_response(gateway.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    serving = Gateway()
    thread = threading.Thread(target=serving.server.serve_forever)
    thread.start()
    yield serving
    serving.server.shutdown()
    thread.join()
    serving.server.server_close()


def test_help_names_the_commands_and_loads_nothing_of_them(tmp_path):
    said = run_anew(tmp_path, "--help", PYTHONPROFILEIMPORTTIME="1")
    assert said.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in said.stderr.splitlines()}
    assert "trunkline_cli.main" in loaded
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(
        {"grpc", "google", "httpx", "rich", "sqlalchemy", "trunkline", "trunkline_runtime", "trunkline_store"}
    )
    names = (
        "up",
        "demo",
        "backup",
        "restore",
        "migrate",
        "settings",
        "check",
        "models",
        "lifecycle",
        "send",
        "replay",
        "tail",
        "costs",
    )
    assert [name for name in names if f"\n  {name} " not in said.stdout] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing",), "No such command 'nothing'"),
        (("restore",), "Missing argument"),
        (("tail", "--tenant", "acme"), "no key: set TRUNKLINE_CLI_KEY"),
        (("costs",), "TRUNKLINE_CLI_KEY_FILE to an operator's token, or run"),
        (("costs", "--month", "2026-13"), "'2026-13' is not a month such as 20"),
        (("replay", "--tenant", "acme"), "nobody can be asked here: give --yes or --dry-run"),
        (("send",), "run `trunkline up` here, or give --hook and --secret-file"),
        (("send", "--hook", "http://127.0.0.1:1/hooks/x"), "give both"),
        (("send", "--hook", "x", "--secret-file", __file__), "x is not a URL: it must begin with http://"),
        (("send", "--hook", "x", "--secret-file", "none"), "cannot read the secret: none: no such file"),
        (("migrate", "tenant"), "set TRUNKLINE_TENANT_STORE_URL\n"),
        (("migrate",), ", or name the services to migrate"),
        (("check", "gatway"), "there is no service gatway; there are"),
    ],
)
def test_wrong_arguments_are_code_2_and_said(tmp_path, arguments, said):
    ended = run(tmp_path, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_failures_are_code_1_and_said(tmp_path, gateway):
    to_nowhere = {"TRUNKLINE_CLI_KEY": "k", "TRUNKLINE_CLI_URL": "http://127.0.0.1:1"}
    ended = run(tmp_path, "tail", "--tenant", "acme", **to_nowhere)
    assert ended.returncode == 1
    assert "cannot reach http://127.0.0.1:1" in ended.stderr
    gateway.status = 401
    gateway.answers = {"/v1/tenants/acme/events": [{"error": {"message": "unknown"}}]}
    ended = run(tmp_path, "tail", "--tenant", "acme", "--url", gateway.url, TRUNKLINE_CLI_KEY="k")
    assert (ended.returncode, ended.stderr) == (1, "trunkline: the key is not accepted: unknown\n")
    ended = run(tmp_path, "backup", "--state", str(tmp_path / "none"))
    assert ended.returncode == 1
    assert "trunkline: nothing to copy" in ended.stderr


def test_settings_and_check_are_the_services_own(tmp_path):
    said = run(tmp_path, "settings", "tenant")
    assert said.returncode == 0
    assert "TRUNKLINE_TENANT_STORE_URL" in said.stdout
    assert "TRUNKLINE_CLI_KEY_FILE" in said.stdout
    assert run(tmp_path, "check", "ai").returncode == 1  # there are no keys


def replaying(gateway: Gateway) -> None:
    begun = {"name": "tenants/acme/replays/r1", "eventCount": "2", "state": "REPLAY_STATE_RUNNING"}
    gateway.answers = {
        "/v1/tenants/acme/events:replay": [
            {"eventCount": "2", "state": "REPLAY_STATE_DRY_RUN", "sample": ["tenants/acme/events/e1"]},
            begun,
        ],
        "/v1/tenants/acme/replays/r1": [begun, begun | {"state": "REPLAY_STATE_DONE", "replayedCount": "2"}],
    }


def test_a_replay_is_counted_first_then_started_and_followed_to_its_end(tmp_path, gateway):
    replaying(gateway)
    env = {"TRUNKLINE_CLI_KEY": "k", "TRUNKLINE_CLI_URL": gateway.url, "TRUNKLINE_CLI_TENANT": "acme"}
    counted = run(tmp_path, "replay", "--filter", "source = s1", "--dry-run", **env)
    assert (counted.returncode, counted.stdout) == (0, "2 events match\n  tenants/acme/events/e1\n")
    assert [asked["dryRun"] for _, asked in gateway.asked] == [True]
    replaying(gateway)
    done = run(tmp_path, "replay", "--filter", "source = s1", "--rate", "5", "--yes", **env)
    assert done.returncode == 0
    assert done.stdout.endswith("started tenants/acme/replays/r1\nreplayed 2 of 2\n")
    started = gateway.asked[2][1]
    assert "dryRun" not in started
    assert (started["filter"], started["ratePerSecond"], started["key"]) == ("source = s1", 5, "Bearer k")
    assert started["requestId"]


def test_a_replay_that_cannot_go_on_says_why(tmp_path, gateway):
    replaying(gateway)
    failed = gateway.answers["/v1/tenants/acme/replays/r1"][1]
    failed |= {"state": "REPLAY_STATE_FAILED", "replayedCount": "1", "error": "INTERNAL: a bug"}
    env = {"TRUNKLINE_CLI_KEY": "k", "TRUNKLINE_CLI_URL": gateway.url, "TRUNKLINE_CLI_TENANT": "acme"}
    done = run(tmp_path, "replay", "--filter", "source = s1", "--yes", **env)
    assert done.returncode == 1
    assert done.stdout.endswith("replayed 1 of 2\n")
    assert "the replay failed: INTERNAL: a bug" in done.stderr


def test_the_key_is_that_of_the_tenant_whom_up_made(tmp_path, gateway):
    (tmp_path / "var").mkdir()
    made = {"name": "tenants/acme", "api_key": "own", "sources": []}
    facts = {"http": gateway.url, "operator_token": "operator", "tenants": [made]}
    (tmp_path / "var" / "dev.json").write_text(json.dumps(facts))
    for tenant, key in (("acme", "own"), ("other", "operator")):
        gateway.answers = {f"/v1/tenants/{tenant}/calls": [{}]}
        assert run(tmp_path, "tail", "calls", "--tenant", tenant, "--no-follow").returncode == 0
        assert gateway.asked[-1][1]["key"] == f"Bearer {key}"


def test_a_key_with_characters_that_no_key_has_is_said_to_be_wrong(tmp_path):
    ended = run(tmp_path, "tail", "--tenant", "acme", TRUNKLINE_CLI_KEY="tl_k\xe9y")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("trunkline: the key has characters that no key has")


def test_a_refused_webhook_is_told_in_the_gateways_words(tmp_path, gateway):
    gateway.status = 404
    gateway.answers = {"/hooks/x/post_call": [{"error": {"message": "there is no source 'x'"}}]}
    hook = ("--hook", f"{gateway.url}/hooks/x", "--secret-file", __file__)
    ended = run(tmp_path, "send", *hook)
    assert (ended.returncode, ended.stderr) == (
        1, "trunkline: the webhook was answered 404: there is no source 'x'\n"
    )  # fmt: skip


def test_a_sample_call_is_sent_with_the_length_of_its_recording(tmp_path, gateway):
    (tmp_path / "tests" / "data" / "calls").mkdir(parents=True)
    samples = json.dumps([{"seconds": 40.28}, {"seconds": 32.52}])
    (tmp_path / "tests" / "data" / "calls" / "calls.json").write_text(samples)
    gateway.status = 202
    gateway.answers = {"/hooks/x/post_call": [{"receiptId": "r1"}]}
    hook = ("--hook", f"{gateway.url}/hooks/x", "--secret-file", __file__)
    for call, seconds in ((2, 33), (9, 40)):
        assert run(tmp_path, "send", "--call", str(call), *hook).returncode == 0
        sent = gateway.asked[-1][1]
        assert (sent["recording_duration"], sent["duration"]) == (seconds, str(seconds))


@pytest.mark.parametrize("arguments", [("settings",), ("settings", "ai"), ("--help",)])
def test_a_reader_that_goes_away_ends_a_command_without_a_traceback(tmp_path, arguments):
    command = [sys.executable, "-m", "trunkline_cli", *arguments]
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_said(tmp_path, gateway):
    gateway.answers = {
        "/v1/tenants/acme/calls": [
            {"calls": [{"name": "tenants/acme/calls/c1", "updateTime": "2026-11-20T10:00:00Z"}]}
        ]
    }
    command = [sys.executable, "-m", "trunkline_cli", "tail", "calls", "--tenant", "acme", "--no-follow"]
    env = os.environ | {"TRUNKLINE_CLI_KEY": "k", "TRUNKLINE_CLI_URL": gateway.url}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            command, cwd=tmp_path, env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr.endswith("trunkline: no space left on device\n")
    assert "Traceback" not in ended.stderr


def test_the_version_is_that_of_the_package(tmp_path):
    said = run(tmp_path, "--version")
    assert said.returncode == 0
    assert said.stdout.startswith("trunkline ")


def test_a_tail_that_is_told_to_end_prints_its_cursor(tmp_path, gateway):
    call = {"name": "tenants/acme/calls/c1", "updateTime": "2026-11-20T10:00:00Z"}
    gateway.answers = {"/v1/tenants/acme/calls": [{"calls": [call]}]}
    command = [sys.executable, "-m", "trunkline_cli", "tail", "calls", "--tenant", "acme"]
    env = os.environ | {"TRUNKLINE_CLI_KEY": "k", "TRUNKLINE_CLI_URL": gateway.url}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as tail:
        assert tail.stdout is not None
        assert "calls/c1" in tail.stdout.readline()
        tail.terminate()
        _, said = tail.communicate(timeout=30)
    assert (tail.returncode, said) == (0, "to continue: --since 2026-11-20T10:00:00Z\n")


def test_ca_makes_certificates_and_says_what_it_made(tmp_path: Path) -> None:
    made = run(tmp_path, "ca", "tls", "--for", "audio", "--for", "operator")
    assert made.returncode == 0, made.stderr
    assert made.stdout.split() == [
        "tls/audio", "audio.trunkline.internal", "tls/operator", "operator.trunkline.internal",
    ]  # fmt: skip
    key = tmp_path / "tls" / "audio" / "tls.key"
    assert key.stat().st_mode & 0o077 == 0
    before = key.read_text()
    assert "good" in run(tmp_path, "ca", "tls", "--for", "audio").stdout
    assert key.read_text() == before
    assert run(tmp_path, "ca", "tls", "--for", "audio", "--renew").returncode == 0
    assert key.read_text() != before


def test_ca_names_what_is_wrong(tmp_path: Path) -> None:
    wrong = run(tmp_path, "ca", "tls", "--for", "gatway")
    assert wrong.returncode == 2
    assert "there is no gatway; there are gateway, worker" in wrong.stderr
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca.key").write_text("none")
    (tmp_path / "tls" / "ca.crt").write_text("none")
    wrong = run(tmp_path, "ca", "tls")
    assert wrong.returncode == 1
    assert "are no authority" in wrong.stderr


def costing(month, micros, engines=(), **more):
    usage = {
        "costMicros": str(micros),
        "inputTokens": "1400",
        "outputTokens": "100",
        "audioDuration": "90.500s",
    }
    made = {"name": "tenants/acme/costs", "month": month, "usage": usage, "answerCount": "1200", "engines": [
        {"service": service, "engine": engine, "usage": usage, "answerCount": "7", "unpricedCount": "2"}
        for service, engine in engines
    ]}  # fmt: skip
    return {**made, **more}


def rows(said: str) -> list[list[str]]:
    return [line.split() for line in said.splitlines()]


def test_a_tenants_costs_are_shown_by_month_kind_and_engine(tmp_path, gateway):
    budget = {
        "budget": {"monthlyMicros": "50000000"},
        "budgetState": "BUDGET_STATE_NEAR",
        "budgetPercent": 84,
    }
    engines = (("ai", "vertex/gemini-2.5-flash"), ("audio", "google/v2 chirp_3"))
    gateway.answers = {
        "/v1/tenants/acme/costs": [
            costing("2025-12", 1_234_567_890, engines, **budget),
            {"name": "tenants/acme/costs", "month": "2026-01"},
        ]
    }
    env = {"TRUNKLINE_CLI_KEY": "k", "TRUNKLINE_CLI_URL": gateway.url}
    said = run(tmp_path, "costs", "--tenant", "acme", "--month", "2026-01", "--months", "2", **env)
    assert said.returncode == 0, said.stderr
    assert [asked for _, asked in gateway.asked] == [
        {"month": month, "key": "Bearer k"} for month in ("2025-12", "2026-01")
    ]
    header, *told, state = rows(said.stdout)
    assert header[:3] == ["month", "kind", "engine"]
    numbers = ["7", "2", "90", "1,400", "100", "1,234.5679"]
    assert told == [
        ["2025-12", "analyses", "vertex/gemini-2.5-flash", *numbers],
        ["2025-12", "transcripts", "google/v2", "chirp_3", *numbers],
        ["all", "1,200", "0", "90", "1,400", "100", "1,234.5679"],
    ]
    assert " ".join(state) == "2025-12: 84% of the budget of 50.0000 US dollars (near)"


def test_all_tenants_costs_are_shown_with_their_budgets(tmp_path, gateway):
    budget = {"budget": {"monthlyMicros": "50000000"}, "budgetState": "BUDGET_STATE_WITHIN"}
    gateway.answers = {
        "/v1/costs": [
            {"costs": [costing("2026-11", 500)], "nextPageToken": "more"},
            {"costs": [costing("2026-11", 70, name="tenants/beta/costs", **budget)]},
        ]
    }
    env = {"TRUNKLINE_CLI_KEY": "k", "TRUNKLINE_CLI_URL": gateway.url}
    said = run(tmp_path, "costs", "--month", "2026-11", **env)
    assert said.returncode == 0, said.stderr
    assert [(row[0], row[1], row[-1]) for row in rows(said.stdout)[1:]] == [
        ("2026-11", "acme", "0.0005"), ("2026-11", "beta", "0%"), ("all", "2,400", "0.0006")
    ]  # fmt: skip
    assert [asked.get("pageToken") for _, asked in gateway.asked] == [None, "more"]


def test_costs_as_json_are_the_apis_own_and_none_are_said_in_words(tmp_path, gateway):
    answer = costing("2026-11", 70)
    gateway.answers = {"/v1/tenants/acme/costs": [answer]}
    env = {"TRUNKLINE_CLI_KEY": "k", "TRUNKLINE_CLI_URL": gateway.url, "TRUNKLINE_CLI_TENANT": "acme"}
    said = run(tmp_path, "costs", "--json", **env)
    assert json.loads(said.stdout) == answer
    gateway.answers = {"/v1/tenants/acme/costs": [{"name": "tenants/acme/costs", "month": "2026-11"}]}
    said = run(tmp_path, "costs", "--month", "2026-11", **env)
    assert (said.returncode, said.stdout) == (0, "nothing was paid for or measured in 2026-11\n")
    assert months("", 3, datetime(2026, 1, 31, tzinfo=UTC)) == ["2025-11", "2025-12", "2026-01"]
