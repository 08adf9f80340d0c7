"""On Spanner the revisions make what the tables declare, down to interleaving, stored columns and expiry."""

from trunkline_gateway import schema

from tests.integration.spanner_emulator import made_by_revisions, spanner_url  # noqa: F401 - a fixture

PACKAGE = "trunkline_gateway.migrations"


async def test_the_revisions_make_what_the_tables_declare(spanner_url):  # noqa: F811
    text = await made_by_revisions(spanner_url, PACKAGE, schema.metadata)
    for part in (
        "NULL_FILTERED INDEX receipts_pending_by_source ON receipts(pending, source_id, received_at)",
        "INTERLEAVE IN PARENT events ON DELETE CASCADE",
        "PRIMARY KEY(tenant_id, event_id, seq)",
        "events_by_time ON events(tenant_id, received_at, event_id) STORING (source_id, provider,",
        "NULL_FILTERED INDEX jobs_queue ON jobs(queue_class, shard, tenant_id, visible_at, job_id)",
        "ROW DELETION POLICY (OLDER_THAN(expire_at, INTERVAL 0 DAY))",
        "ROW DELETION POLICY (OLDER_THAN(finished_at, INTERVAL 30 DAY))",
    ):
        assert part in text, text
    assert "event_receipts_by_event" not in text, "the key finds them there"


def test_no_index_that_grows_with_webhooks_leads_with_a_time():
    for table in schema.metadata.tables.values():
        for index in table.indexes:
            first = next(iter(index.columns)).name
            assert not first.endswith("_at") or index.name in {"jobs_untold", "tasks_untold"}, index.name
