"""Every command of the README and of docs/ works as it is written, against the running suite."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from trunkline_cli.suite import web, webhooks
from trunkline_cli.suite.seed import SeededTenant, api, seed_tenant
from trunkline_cli.suite.up import dev_facts

from tests.e2e.conftest import CALLS, World
from tests.e2e.documented import (
    COMMANDS,
    DOCUMENTS,
    OTHERS,
    ROOT,
    Block,
    Shell,
    blocks,
    commands,
    without_own_values,
)


@pytest.fixture
def shell(world: World, tmp_path: Path) -> Shell:
    """A shell in a folder that looks like the project's while `make up` runs."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "keys").symlink_to(world.suite.folder / "keys")
    (tmp_path / "var" / "dev.json").write_text(json.dumps(dev_facts(world.suite, world.tenants)))
    return Shell(tmp_path)


def here(world: World, text: str, **names: str) -> str:
    """Put the running suite's addresses, and names of its resources, in the place of the documented ones."""
    ports = {"8080": world.suite.http, "9090": world.suite.metrics["gateway"]}
    ports |= {"9091": world.suite.metrics["tenant"]}
    ports |= {"50050": world.suite.grpc["gateway"], "50051": world.suite.grpc["tenant"]}
    ports |= {"50052": world.suite.grpc["audio"], "50053": world.suite.grpc["ai"]}
    for port, address in ports.items():
        text = re.sub(rf"127\.0\.0\.1:{port}\b", address, text)
    for name, value in names.items():
        text = re.sub(rf"(?<=/){name}\b", value, text)
    return text


def script(document: str) -> str:
    return "".join(block.text for block in commands(ROOT / document))


def finished(world: World, tenant: SeededTenant, number: str = "") -> dict[str, Any]:
    payload = webhooks.callrail_call(tenant.source("callrail"), number or world.call_id(), recorded=False)
    answer = world.post(webhooks.callrail(tenant.source("callrail"), "pre_call", payload))
    return world.finished(tenant, answer.json()["receiptId"])


def called(world: World, tenant: SeededTenant, number: str) -> dict[str, Any]:
    source = tenant.source("callrail")
    payload = webhooks.callrail_call(source, world.call_id(), recorded=False, number=number)
    answer = world.post(webhooks.callrail(source, "pre_call", payload))
    return world.finished(tenant, answer.json()["receiptId"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_fence_says_what_it_holds_so_that_no_command_hides(document):
    for block in blocks(document):
        assert block.language in COMMANDS | OTHERS, f"{document.name}:{block.line}"
        if block.language == "text":
            first = block.text.split()[0] if block.text.split() else ""
            assert first not in {
                "curl",
                "make",
                "grpcurl",
                "sudo",
                "export",
                "trunkline",
                ".venv/bin/trunkline",
            }, f"{document.name}:{block.line}"


def test_no_document_with_commands_is_left_out():
    found = {document.name for document in DOCUMENTS if commands(document)}
    # Those of security.md are run against a suite with mutual TLS: test_e2e_mtls.py. Of production.md:
    # test_e2e_production.py.
    documents = {
        "getting-started.md", "api.md", "operations.md", "production.md", "engines-speech.md",
        "engines-language.md", "security.md", "edge.md", "privacy.md",
    }  # fmt: skip
    assert found == {"README.md", *documents}


def test_the_readme(world, shell, samples):
    tenant = world.tenants[0]
    # As `make up` has it: a recording that is shorter than its webhook says is asked for again and again first.
    first = CALLS / next(iter(samples.values()))["file"]
    world.recordings.files["1"] = world.recordings.files["CAL1"] = first
    finished(world, tenant)
    said = shell.run(here(world, without_own_values(script("README.md"), {})), {})
    assert "202 Accepted" in said


def test_getting_started(world, shell):
    # Another run of this test may have the documented port.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    said = shell.run(here(world, script("docs/getting-started.md")).replace("8099", port), {})
    assert "202 Accepted" in said
    assert "INTENT_QUOTE_REQUEST" in said
    assert "CREDENTIALS" not in said


@pytest.mark.timeout(200)  # it has speech written, on a machine that may be busy
def test_the_http_api(world, shell):
    tenant = world.tenants[0]
    said = shell.run(here(world, script("docs/api.md")), {})
    assert "50000000" in said
    assert (shell.folder / "part.mp3").stat().st_size == 1024
    assert (shell.folder / "whole.mp3").read_bytes() == (
        ROOT / "tests/data/calls/quote-request.mp3"
    ).read_bytes()
    assert json.loads((shell.folder / "openapi.json").read_text())["openapi"].startswith("3.1")
    refused = web.get(
        f"{world.suite.http_url}/v1/tenants/acme/calls/none",
        headers={"authorization": f"Bearer {tenant.api_key}"},
    ).json()["error"]
    assert {"code", "status", "message", "details"} <= refused.keys()
    assert {"reason", "domain"} <= refused["details"][0].keys()


def test_operating(world, shell):
    tenant = seed_tenant(world.suite.http_url, world.suite.operator_token, "documented", world.recordings.url)
    source = tenant.source("callrail")
    done = finished(world, tenant)
    world.recordings.tokens.add(source.credential)
    number = world.call_id()
    sound = ROOT / "tests/data/calls/voicemail.mp3"
    world.recordings.files[number] = world.recordings.files[f"CAL{number}"] = sound
    recorded = webhooks.callrail(source, "post_call", webhooks.callrail_call(source, number, recorded=True))
    world.finished(tenant, world.post(recorded).json()["receiptId"])
    one, other = called(world, tenant, "+12148654559"), called(world, tenant, "+12148654560")
    malformed = webhooks.callrail(source, "post_call", {"id": []})
    dead = world.finished(tenant, world.post(malformed).json()["receiptId"], "EVENT_STATE_DEAD_LETTER")
    stopped = webhooks.callrail(source, "post_call", {"id": {}})
    stopped_event = world.finished(tenant, world.post(stopped).json()["receiptId"], "EVENT_STATE_DEAD_LETTER")
    for number in ("7", "8"):
        refused = webhooks.callrail(source, "pre_call", {"id": number})
        body = refused.body
        signature = base64.b64encode(hmac.digest(b"the real one", body, hashlib.sha1)).decode()
        headers = {**refused.headers, "Signature": signature}
        assert web.post(refused.url, content=body, headers=headers).status_code == 401
    with api(world.suite.http_url, world.suite.operator_token) as operator:
        replay = operator.post(
            "/v1/tenants/documented/events:replay", json={"filter": "state = dead_letter"}
        ).raise_for_status()
        rejections = world.wait(
            lambda: (
                operator.get("/v1/tenants/documented/rejections").json().get("rejections", [])[1:]
                and operator.get("/v1/tenants/documented/rejections").json()["rejections"]
            ),
            "the rejections",
        )
        recordings = operator.get("/v1/tenants/documented/recordings").json()["recordings"]
        transcripts = operator.get("/v1/tenants/documented/transcripts").json()["transcripts"]
        lead = operator.get(f"/v1/{other['call']}").json()["lead"]
    names = {
        "DEAD_EVENT": dead["name"].rpartition("/")[2],
        "DONE_EVENT": done["name"].rpartition("/")[2],
        "EVENT": done["name"].rpartition("/")[2],
        "REPLAY": replay.json()["name"].rpartition("/")[2],
        "SOURCE": source.id,
        "WAITING_EVENT": stopped_event["name"].rpartition("/")[2],
        "RECEIPT": done["receipts"][0]["receiptId"],
        "RECORDING": recordings[0]["name"].rpartition("/")[2],
        "OLD_REJECTION": rejections[1]["name"].rpartition("/")[2],
        "REJECTION": rejections[0]["name"].rpartition("/")[2],
        "TRANSCRIPT": transcripts[0]["name"].rpartition("/")[2],
        "CALL": one["call"].rpartition("/")[2],
        "LEAD": lead.rpartition("/")[2],
        "acme": "documented",
    }
    values = {"OPERATOR": f"Authorization: Bearer {world.suite.operator_token}"}
    exports, *others = commands(ROOT / "docs/operations.md")
    # Last: when its task has run, nothing of the tenant is there, whatever the other commands did.
    (deletion,) = (block for block in others if "force=true" in block.text)

    def run(*parts: Block) -> None:
        text = "".join(part.text for part in parts)
        shell.run(here(world, without_own_values(text, values), **names), values)

    run(exports, *(block for block in others if block is not deletion))
    with api(world.suite.http_url, world.suite.operator_token) as operator:

        def gone(name: str) -> bool:
            return operator.get(f"/v1/{name}").status_code == 404

        for name in (one["call"], other["call"], one["name"], other["name"], lead):
            world.wait(lambda: gone(name), f"{name} to go")  # noqa: B023
        assert operator.get(f"/v1/{done['name']}").status_code == 200
        run(exports, deletion)
        world.wait(lambda: gone(done["name"]), f"{done['name']} to go with its tenant")


def test_choosing_a_speech_engine(world, shell):
    said = shell.run(
        script("docs/engines-speech.md"), {"TRUNKLINE_AUDIO_TENANT_ADDRESS": world.suite.grpc["tenant"]}
    )
    assert "the settings are correct" in said
    assert "large-v3" in said


def test_choosing_a_language_engine(world, shell):
    text = here(world, script("docs/engines-language.md"))
    said = shell.run(text, {"TRUNKLINE_AI_TENANT_ADDRESS": world.suite.grpc["tenant"]})
    assert "the settings are correct" in said
    tenant, _ = json.JSONDecoder().raw_decode(said, said.index("{", said.index("the settings are correct")))
    settings = tenant["analysisSettings"]
    assert [one["name"] for one in settings["labels"]] == ["asks about financing"]
    assert [one["id"] for one in settings["questions"]] == ["has_insurance"]
    assert settings["keywords"][0]["phrases"] == ["Joe's Plumbing", "Drain Kings"]
    if (ROOT / ".tools" / "grpcurl").exists():
        listed = json.loads(said[said.rindex('{"analyses"') :])["analyses"]
        assert [one["call"] for one in listed] == ["tenants/acme/calls/my-test"]
        assert listed[0]["labels"][0]["answer"] == "ANSWER_YES"


def test_privacy(world, shell):
    said = shell.run(here(world, script("docs/privacy.md")), {})
    shown, at = [], 0
    while at < len(said.rstrip()):
        tenant, at = json.JSONDecoder().raw_decode(said, at)
        shown.append(tenant.get("analysisSettings", {}).get("redaction", {}))
    off, hidden, default, private, read, default_again = shown
    assert (off["remote"], off["stored"]) == ("REMOTE_REDACTION_OFF", False)
    assert (hidden["stored"], hidden["kinds"]) == (True, ["PII_KIND_CARD", "PII_KIND_SSN"])
    assert private["storedTranscripts"]
    assert private == read
    assert (default, default_again) == ({}, {})
