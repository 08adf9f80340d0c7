"""What the ai service does with its store, on whichever engine: checks, each given a World over an empty one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from trunkline.ai.v1 import analysis_pb2
from trunkline.common.v1 import purge_pb2
from trunkline_ai.admin_service import AdminServicer
from trunkline_ai.analyses.rows import Analyses, StoredAnalysis, result_of
from trunkline_ai.cache.settings import CacheSettings
from trunkline_ai.cache.tiers import AnswerCache
from trunkline_ai.retention import sweep
from trunkline_ai.schema import metadata
from trunkline_runtime.api.paging import Place, encode
from trunkline_runtime.errors import InvalidArgument, NotFound

from tests.integration.conforming import StoredWorld
from tests.integration.inspection import RunAgain, lacks_tenant, statements

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CHECKS = {}
EXCLUSIONS = {
    ("spanner", "expired_analyses_are_swept"): (
        "the table's ROW DELETION POLICY deletes them there, which the emulator takes and does not enforce; that it "
        "is declared is shown by test_ai_schema.py"
    ),
}
"""(engine, check) -> why that engine is let off that check."""


def check(function):
    """Enrol a check in the suite."""
    CHECKS[function.__name__] = function
    return function


def analysis(identity, tenant="acme", at=NOW, until=None, **result):
    return StoredAnalysis(tenant, identity, "c1", 0, "local", {"summary": "said: héllo", **result}, at, until)


class World(StoredWorld):
    """The service's parts that use the store, and the clock."""

    metadata = metadata

    def __init__(self, db, clock):
        self.db, self.clock = db, clock
        self.analyses, self.admin = (
            Analyses(db),
            AdminServicer(db, AnswerCache(CacheSettings(), lambda: "secret"), lambda _tenant, _calls: None),
        )


@check
async def what_is_kept_is_read_as_it_was(world):
    world.clock.set(NOW)
    kept = analysis("a1", until=NOW + DAY, score=0.25, tags=["x", None])
    assert await world.analyses.add(kept) == kept
    assert await world.analyses.get("acme", "a1") == kept
    assert await world.analyses.get("other", "a1") is None


@check
async def a_message_is_read_as_it_was_stored(world):
    said = analysis_pb2.Analysis(unreliable=True, unreliable_reason="language_not_analysed", summary="héllo")
    await world.analyses.add(replace(analysis("a1"), result=result_of(said)))
    kept = await world.analyses.get("acme", "a1")
    assert result_of(kept.to_proto()) == result_of(said)
    (listed,), _ = await world.analyses.page("acme", Place(5, "", ""))
    assert listed.to_proto() == kept.to_proto()


@check
async def the_first_of_an_id_stays(world):
    await world.analyses.add(analysis("a1"))
    assert await world.analyses.add(analysis("a1", other=True)) == analysis("a1")


@check
async def creators_of_one_id_at_once_agree(world):
    kept = await asyncio.gather(*(world.analyses.add(analysis("a1", by=n)) for n in range(4)))
    assert len({one.result["by"] for one in kept}) == 1
    assert await world.rows() == {("analyses", "acme"): 1}


@check
async def only_a_degraded_one_is_improved(world):
    await world.analyses.add(analysis("a1", degraded=True))
    good = replace(analysis("a1"), engine="large")
    await world.analyses.improve(good)
    assert await world.analyses.get("acme", "a1") == good
    await world.analyses.improve(replace(good, engine="larger"))
    assert await world.analyses.get("acme", "a1") == good


@check
async def a_callback_that_is_run_again_changes_nothing_twice(world):
    again = RunAgain(world.db)
    analyses = Analyses(again)
    assert await analyses.add(analysis("a1", degraded=True)) == analysis("a1", degraded=True)
    await analyses.improve(analysis("a1"))
    assert await world.analyses.get("acme", "a1") == analysis("a1")
    assert await analyses.delete("acme", "a1")
    assert again.undone == 3
    assert await world.rows() == {}


@check
async def pages_show_each_once_while_rows_come_and_go(world):
    for n in range(20):  # four of each time: the id decides among them
        await world.analyses.add(analysis(f"a{n:02d}", at=NOW + timedelta(seconds=n // 4)))
    await world.analyses.add(analysis("a99", tenant="other"))
    seen, token, more = [], "", True
    while more:
        page, token = await world.analyses.page("acme", Place(3, token, ""))
        seen, more = seen + [one.analysis_id for one in page], bool(token)
        if len(seen) == 6:
            await world.analyses.delete("acme", seen[-1])  # where the next page begins
            await world.analyses.add(analysis("a98", at=NOW + DAY))  # before the first page
    assert seen == [f"a{n:02d}" for n in reversed(range(20))]


@check
async def a_filter_finds_those_of_a_call_and_a_time(world):
    for n, call in enumerate(("c1", "c2", "c1")):
        await world.analyses.add(replace(analysis(f"a{n}", at=NOW + n * DAY), call_id=call))
    await world.analyses.add(analysis("a9", tenant="other"))
    late = (NOW + DAY).isoformat()
    for filter_, found in (
        ("call = c1", ["a2", "a0"]),
        ('call = "tenants/acme/calls/c2"', ["a1"]),
        (f'create_time >= "{late}" AND call != c2', ["a2"]),
        ("engine = none", []),
    ):
        page, _ = await world.analyses.page("acme", Place(5, "", ""), filter_)
        assert [one.analysis_id for one in page] == found, filter_
    with pytest.raises(InvalidArgument):
        await world.analyses.page("acme", Place(5, "", ""), "spam = true")


MARKED = {
    "labels": [{"name": "asks price", "answer": "ANSWER_YES"}, {"name": "insured", "answer": "ANSWER_NO"}],
    "keywords": [{"keyword": "roof"}, {"keyword": "roof"}, {"keyword": 'a "b'}],
}


@check
async def a_filter_finds_those_with_a_label_and_a_keyword(world):
    world.clock.set(NOW)

    async def found(filter_, tenant="acme"):
        page, _ = await world.analyses.page(tenant, Place(5, "", ""), filter_)
        return [one.analysis_id for one in page]

    await world.analyses.add(analysis("a1", degraded=True))
    await world.analyses.add(analysis("a2", until=NOW + DAY, **MARKED))
    await world.analyses.add(analysis("a3", tenant="other", **MARKED))
    assert await found('labels:"asks price" AND keywords:roof') == ["a2"]
    assert await found("labels:insured") == []
    assert await found("keywords:roof", "other") == ["a3"]
    await world.analyses.improve(analysis("a1", **MARKED))
    assert await found('keywords:"a \\"b" AND engine = local') == ["a2", "a1"]
    await world.analyses.delete("acme", "a1")
    await world.admin.PurgeCalls(
        purge_pb2.PurgeCallsRequest(parent="tenants/acme", calls=["tenants/acme/calls/c1"]), None
    )
    assert await world.rows() == {("analyses", "other"): 1, ("analysis_marks", "other"): 2 + 1}
    await world.purge("other")
    assert await world.rows() == {("deleted_tenants", "other"): 1}
    with pytest.raises(InvalidArgument):
        await found("labels = roof")


@check
async def one_whose_time_has_come_is_gone_and_gives_way(world):
    world.clock.set(NOW)
    await world.analyses.add(analysis("a1", until=NOW + DAY))
    world.clock.set(NOW + DAY)
    assert await world.analyses.get("acme", "a1") is None
    assert await world.analyses.page("acme", Place(5, "", "")) == ([], "")
    later = analysis("a1", until=NOW + 3 * DAY, later=True)
    assert await world.analyses.add(later) == later
    assert await world.analyses.get("acme", "a1") == later


@check
async def expired_analyses_are_swept(world):
    world.clock.set(NOW)
    for tenant in ("acme", "other"):
        await world.analyses.add(analysis("a1", tenant, until=NOW + DAY))
        await world.analyses.add(analysis("a2", tenant))
    await sweep(world.db)
    assert await world.rows() == {("analyses", "acme"): 2, ("analyses", "other"): 2}
    world.clock.set(NOW + DAY)
    await sweep(world.db)
    assert await world.rows() == {("analyses", "acme"): 1, ("analyses", "other"): 1}


@check
async def a_deleted_tenant_leaves_a_tombstone_alone(world):
    for tenant in ("acme", "other"):
        for n in range(3):
            await world.analyses.add(analysis(f"a{n}", tenant))
    await world.purge("acme")
    await world.purge("acme")
    with pytest.raises(NotFound):
        await world.analyses.add(analysis("late"))
    assert await world.rows() == {("deleted_tenants", "acme"): 1, ("analyses", "other"): 3}


@check
async def no_statement_for_a_tenant_lacks_its_tenant(world):
    await world.analyses.add(analysis("a1"))
    with statements() as seen:
        for _ in range(2):  # new, and there already
            await world.analyses.add(analysis("a2", degraded=True))
        await world.analyses.get("acme", "a2")
        await world.analyses.page("acme", Place(5, encode((NOW + DAY, "x"), ""), ""))
        await world.analyses.improve(analysis("a2"))
        await world.analyses.delete("acme", "a2")
        await world.purge("acme")
    assert len(seen) >= 10
    assert [statement for statement in seen if lacks_tenant(statement)] == []
