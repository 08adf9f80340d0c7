"""The command that sets how recordings age in a bucket: what it asks of the bucket, and what it tells.

fake-gcs-server forgets lifecycle rules, so a server of the test's own takes the requests.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from trunkline_audio.media.blobs.__main__ import main
from trunkline_audio.media.blobs.lifecycle import OBJECTS
from trunkline_audio.recordings.rows import blob_key

THEIRS = {"action": {"type": "Delete"}, "condition": {"age": 3, "matchesPrefix": ["logs/"]}}
BEFORE = {"action": {"type": "Delete"}, "condition": {"age": 7, "matchesPrefix": ["kept/t."]}}
SET = {"TRUNKLINE_AUDIO_BLOBS_BUCKET": "gs://recordings/kept"}


@pytest.fixture
def bucket(monkeypatch):
    """A bucket with a rule of somebody else and an earlier one of ours; what was patched, with its address."""
    there = {"name": "recordings", "metageneration": "5", "lifecycle": {"rule": [THEIRS, BEFORE]}}
    patched = []

    class Handler(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self):
            self._answer(there)

        def do_PATCH(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            patched.append((self.path, body))
            self._answer({**there, **body})

        def _answer(self, body):
            text = json.dumps(body if Handler.status == 200 else {"error": {"message": "no"}}).encode()
            self.send_response(Handler.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    patched.append(Handler)
    yield patched
    server.shutdown()
    server.server_close()


def rule(days, storage=None):
    action = {"type": "SetStorageClass", "storageClass": storage} if storage else {"type": "Delete"}
    return {"action": action, "condition": {"age": days, "matchesPrefix": ["kept/t."]}}


def test_the_rules_name_every_recording_and_nothing_else():
    assert blob_key("any", "thing").startswith(OBJECTS)


def test_the_bucket_gets_our_rules_and_keeps_those_of_others(bucket, capsys):
    assert main([], SET) == 0
    _, (path, body) = bucket
    assert "ifMetagenerationMatch=5" in path
    assert body["lifecycle"]["rule"] == [
        THEIRS,
        rule(30, "NEARLINE"),
        rule(90, "COLDLINE"),
        rule(365, "ARCHIVE"),
        rule(2555),
    ]
    assert capsys.readouterr().out.splitlines() == [
        "gs://recordings/kept has these rules now:",
        "  logs/*: deleted after 3 days",
        "  kept/t.*: NEARLINE after 30 days",
        "  kept/t.*: COLDLINE after 90 days",
        "  kept/t.*: ARCHIVE after 365 days",
        "  kept/t.*: deleted after 2555 days",
    ]


def test_a_rule_that_a_later_one_overtakes_is_told(bucket, capsys):
    ages = {"NEARLINE": "100", "COLDLINE": "90", "ARCHIVE": "0", "DELETE": "95"}
    env = SET | {f"TRUNKLINE_AUDIO_BLOBS_{name}_DAYS": days for name, days in ages.items()}
    assert main(["--dry-run"], env) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "TRUNKLINE_AUDIO_BLOBS_NEARLINE_DAYS=100 has no effect: a recording is COLDLINE after 90 days"
    )


def test_an_age_of_0_has_no_rule_and_a_dry_run_asks_nothing(bucket, capsys):
    zeros = {
        f"TRUNKLINE_AUDIO_BLOBS_{name}_DAYS": "0" for name in ("NEARLINE", "COLDLINE", "ARCHIVE", "DELETE")
    }
    assert main([], SET | zeros) == 0
    assert bucket[1][1]["lifecycle"]["rule"] == [THEIRS]
    assert main(["--dry-run"], SET | {"TRUNKLINE_AUDIO_BLOBS_NEARLINE_DAYS": "10"}) == 0
    assert len(bucket) == 2
    assert "kept/t.*: NEARLINE after 10 days" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "told"),
    [(403, "may not use the bucket"), (404, "there is no bucket"), (412, "refuses the bucket")],
)
def test_a_bucket_that_refuses_is_told_in_a_line(bucket, capsys, status, told):
    bucket[0].status = status
    assert main([], SET) == 1
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1


def test_a_folder_has_no_rules(capsys):
    assert main([], {}) == 2
    assert "TRUNKLINE_AUDIO_BLOBS_BUCKET is not set" in capsys.readouterr().err
