"""Revisions make what the tables declare, on each engine."""

from dataclasses import replace

import sqlalchemy as sa
from audio_conformance import transcript
from trunkline_audio.schema import metadata, transcripts
from trunkline_audio.transcripts.rows import Transcripts
from trunkline_store import Database
from trunkline_store.migrations import upgrade
from trunkline_store.testing.schema import differences, undeclared

from tests.integration.spanner_emulator import made_by_revisions, spanner_url  # noqa: F401 - a fixture

NEW = (
    "language_confidence", "overruled_language", "usage", "result_key", "lanes", "reused", "wanted_engine", "again_at",
    "asked", "translated_from", "degraded_reason",
)  # fmt: skip
# Their claims look for the tenants that have something due.
QUEUES = ("jobs", "jobs_turns", "tasks", "tasks_turns")
PACKAGE = "trunkline_audio.migrations"


async def test_in_a_file(tmp_path):
    async with await Database.open(f"sqlite:///{tmp_path}/audio.db", metadata, migrations=PACKAGE) as db:
        assert await db.read(lambda conn: differences(conn, metadata)) == []


async def test_an_upgrade_keeps_the_transcripts_that_are_there(tmp_path):
    url = f"sqlite:///{tmp_path}/audio.db"
    kept = replace(transcript("t1"), language_confidence=0.0, overruled_language="", usage=None)
    before = {name: value for name, value in vars(kept).items() if name not in NEW}

    def older(conn):
        upgrade(conn, PACKAGE, "0002")
        names, places = ", ".join(before), ", ".join(f":{name}" for name in before)
        types = {name: transcripts.c[name].type for name in before}
        values = [sa.bindparam(name, value, types[name]) for name, value in before.items()]
        conn.execute(sa.text(f"INSERT INTO transcripts ({names}) VALUES ({places})").bindparams(*values))

    async with await Database.open(url, sa.MetaData()) as db:
        await db.write(older)
    async with await Database.open(url, metadata, migrations=PACKAGE) as db:
        assert await Transcripts(db).get("acme", "t1") == kept


async def test_on_spanner(spanner_url):  # noqa: F811
    text = await made_by_revisions(spanner_url, PACKAGE, metadata)
    for part in (
        "NULL_FILTERED INDEX recordings_by_expiry ON recordings(tenant_id, expire_at)",
        "recordings_by_time ON recordings(tenant_id, created_at, recording_id) STORING (",
        "transcripts_by_time ON transcripts(tenant_id, created_at, transcript_id) STORING (recording_id,",
        "engine, expire_at, language_confidence, overruled_language, wanted_engine, again_at, translated_from)",
    ):
        assert part in text, text
    assert text.count("ROW DELETION POLICY (OLDER_THAN(expire_at, INTERVAL 0 DAY))") == 5, (
        "these alone: a recording's bytes go before its row, which Spanner knows nothing of"
    )


def test_options_name_what_is_there():
    assert undeclared(metadata) == []


def test_every_key_and_index_begins_with_the_tenant():
    for table in metadata.tables.values():
        if table.name in QUEUES:
            continue
        for keyed in (table.primary_key, *table.indexes):
            assert next(iter(keyed.columns)).name == "tenant_id", keyed
