"""The audio service's conformance suite on every engine."""

import pytest
from audio_conformance import CHECKS, EXCLUSIONS, World
from trunkline_audio.schema import metadata

from tests.integration.conforming import Conformance
from tests.integration.inspection import lacks_tenant


class TestAudio(Conformance):
    metadata = metadata
    migrations = "trunkline_audio.migrations"
    checks = CHECKS
    exclusions = EXCLUSIONS

    def world(self, db, clock, folder):
        return World(db, clock, folder)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT recordings.call FROM recordings WHERE recordings.recording_id = ?",
        "SELECT recordings.tenant_id FROM recordings",
        "SELECT a.x FROM a JOIN b ON b.id = a.id WHERE a.tenant_id = ?",
        "UPDATE transcripts SET tenant_id=? WHERE transcript_id = ?",
        "INSERT INTO recordings (recording_id) VALUES (?)",
        "DELETE FROM recordings WHERE recordings.recording_id = ?",
    ],
)
def test_the_inspection_finds_what_lacks_a_tenant(statement):
    assert lacks_tenant(statement)
