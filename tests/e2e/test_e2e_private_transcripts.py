"""A tenant that wants placeholders: no file of the suite ever holds what callers say of themselves."""

from __future__ import annotations

import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from trunkline_cli.suite import webhooks
from trunkline_cli.suite.seed import SeededTenant, api

from tests.e2e.conftest import CALLS, World, running
from tests.standins.reading_audio import SECRETS

READING = "tests.standins.reading_audio:create"
SPOKEN = ("Thomas", "555-0158")
"""Of the sample voicemail, as Whisper writes it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def private(folder: Path) -> Iterator[World]:
    settings = {
        "TRUNKLINE_AUDIO_ENGINE": f"whisper,{READING}",
        "STANDIN_ENGINE_HELD": str(folder.parent / "engine.held"),
        "TRUNKLINE_WORKER_SOURCE_SECONDS": "0",  # a changed setting counts at once
    }
    with running(folder, settings) as world:
        yield world


def seeded(world: World, name: str, *, stored: bool, engine: str = "") -> SeededTenant:
    """A tenant as an operator sets it up."""
    tenant = world.seed(name)
    change(world, name, stored=stored, engine=engine)
    return tenant


def change(world: World, name: str, *, stored: bool, engine: str = "") -> None:
    told = {
        "speechSettings": {"engine": engine},
        "analysisSettings": {"redaction": {"storedTranscripts": stored}},
    }
    with api(world.suite.http_url, world.suite.operator_token) as operator:
        mask = "speechSettings,analysisSettings.redaction"
        changed = operator.patch(f"/v1/tenants/{name}", params={"updateMask": mask}, json=told)
        changed.raise_for_status()


def called(world: World, tenant: SeededTenant, sound: Path) -> str:
    """Post the webhook of a call with a recording; the receipt's id."""
    call_id = world.call_id()
    world.recordings.files[f"CAL{call_id}"] = world.recordings.files[call_id] = sound
    source = tenant.source("callrail")
    payload = webhooks.callrail_call(source, call_id)
    answer = world.post(webhooks.callrail(source, "post_call", payload))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["receiptId"])


def written(folder: Path, secrets: Sequence[str]) -> set[str]:
    """Which of the secrets stand in any file: databases with their logs, recordings, and what processes log."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            whole = path.read_bytes()
            found |= {secret for secret in secrets if secret.encode() in whole}
    return found


def sound(path: Path, seconds: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 8_000, 0, "NONE", ""))
        file.writeframes(bytes(4 * 8_000 * seconds))
    return path


def conversation(world: World, tenant: SeededTenant, receipt: str) -> dict:
    event = world.finished(tenant, receipt)
    return world.get(tenant, event["call"] + "/conversation").raise_for_status().json()


def test_what_a_caller_reads_out_is_in_no_file(private: World, folder: Path, tmp_path: Path) -> None:
    tenant = seeded(private, "hush", stored=True, engine=READING)
    whole = conversation(private, tenant, called(private, tenant, sound(tmp_path / "short.wav", 6)))
    texts = [segment["text"] for segment in whole["transcript"]["segments"]]
    assert texts[3:] == [
        "Call me on [PHONE_1], please. And the deposit goes on my card, [CARD_1]",
        "Uh-huh.",
        "[CARD_1]. Thank you.",
    ]
    said = [word["text"] for segment in whole["transcript"]["segments"] for word in segment["words"]]
    assert said.count("[CARD_1]") + said.count("[CARD_1].") == 2
    analysis = whole["analysis"]
    assert [flag["type"] for flag in analysis["complianceFlags"]] == ["COMPLIANCE_TYPE_CARD_NUMBER"]
    assert (analysis["intent"], analysis["spam"]) == ("INTENT_QUOTE_REQUEST", False)
    assert "[PHONE_1]" in {entity["text"] for entity in analysis["entities"]}
    assert "[NAME_1]" in whole["call"]["openingWords"]
    name = whole["transcript"]["name"]
    assert "[CARD_1]" in private.get(tenant, f"{name}:export").text
    assert private.get(tenant, f"{name}:search", query="Quigley").json()["matches"] == []
    assert len(private.get(tenant, f"{name}:search", query='"card 1"').json()["matches"]) == 2
    assert written(folder, SECRETS) == set()


def test_a_long_recording_is_in_no_file_while_it_is_transcribed(
    private: World, folder: Path, tmp_path: Path
) -> None:
    tenant = seeded(private, "hushed", stored=True, engine=READING)
    held = folder.parent / "engine.held"
    held.touch()
    try:
        receipt = called(private, tenant, sound(tmp_path / "long.wav", 61))

        def reached() -> dict | None:
            path = f"tenants/{tenant.name}/operations"
            found = private.get(tenant, path).json().get("operations", [])
            return next((one for one in found if "transcribedDuration" in one["metadata"]), None)

        operation = private.wait(reached, "a transcription that is under way")
        assert not operation.get("done")
        assert written(folder, SECRETS) == set()
    finally:
        held.unlink()
    whole = conversation(private, tenant, receipt)
    assert "[CARD_1]" in whole["transcript"]["segments"][5]["text"]
    assert written(folder, SECRETS) == set()


def test_what_whisper_hears_is_in_no_file(private: World, folder: Path) -> None:
    tenant = seeded(private, "whispered", stored=True)
    whole = conversation(private, tenant, called(private, tenant, CALLS / "voicemail.mp3"))
    text = " ".join(segment["text"] for segment in whole["transcript"]["segments"])
    assert "[NAME_1]" in text
    assert "[PHONE_1]" in text
    assert whole["analysis"]["intent"] == "INTENT_VOICEMAIL"
    assert written(folder, SPOKEN) == set()


def test_without_the_setting_the_words_are_stored(private: World, folder: Path, tmp_path: Path) -> None:
    """So the tests above would see them."""
    tenant = seeded(private, "plain", stored=False, engine=READING)
    conversation(private, tenant, called(private, tenant, sound(tmp_path / "short.wav", 6)))
    assert {"Quigley", "555-0127", "4024 0071", "two three four five"} <= written(folder, SECRETS)
    tenant = seeded(private, "plainer", stored=False)
    conversation(private, tenant, called(private, tenant, CALLS / "voicemail.mp3"))
    assert written(folder, SPOKEN) == set(SPOKEN)


def test_a_transcript_that_exists_is_replaced_by_a_forced_replay(private: World, tmp_path: Path) -> None:
    tenant = seeded(private, "late", stored=False, engine=READING)
    receipt = called(private, tenant, sound(tmp_path / "short.wav", 6))
    old = conversation(private, tenant, receipt)["transcript"]
    assert "Rosalind" in old["segments"][0]["text"]
    change(private, tenant.name, stored=True, engine=READING)
    asked = {"recording": old["recording"]}
    with (
        api(private.suite.http_url, tenant.api_key) as client,
        api(private.suite.http_url, private.suite.operator_token) as operator,
    ):
        made = client.post(f"/v1/tenants/{tenant.name}/transcripts", json=asked).raise_for_status().json()
        assert (made["reused"], "[NAME_1]" in made["segments"][0]["text"]) == (True, True)
        event = private.event_of(tenant, receipt)
        operator.post(f"/v1/{event['name']}:replay", json={"force": True}).raise_for_status()

        def replaced() -> dict | None:
            whole = private.get(tenant, event["call"] + "/conversation").raise_for_status().json()
            return whole if whole["transcript"]["name"] != old["name"] else None

        whole = private.wait(replaced, "another transcript")
        assert "[NAME_1]" in whole["transcript"]["segments"][0]["text"]
        operator.delete(f"/v1/{old['name']}").raise_for_status()
    assert private.get(tenant, old["name"]).status_code == 404
