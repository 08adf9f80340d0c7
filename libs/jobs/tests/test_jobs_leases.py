"""What a holder may do, and what it may no longer."""

import hashlib
from datetime import timedelta

import pytest
import sqlalchemy as sa
from trunkline_jobs import JobState, LeaseLost, NewJob, Ran, create_v1, create_v2, create_v3, jobs_table
from trunkline_jobs.rows import HISTORY_KEPT
from trunkline_store import Database, StoreError
from trunkline_store.testing.schema import differences, undeclared

V1 = "b984b6d5862c82e134fc0b25ef91293113b725c116fc2142f7e3d7de9c3e5e41"


@pytest.fixture
async def held(queue):
    job = NewJob("a", "acme", "pipeline", "event-1", stage="normalise")
    await queue.run(queue.enqueue_many, [job])
    [job] = await queue.run(queue.claim, "w1", 1, 30.0)
    return job


WRITES = {
    "renew": lambda q, c, lease: q.renew(c, lease, 30),
    "advance": lambda q, c, lease: q.advance(c, lease, "fetch", {}),
    "complete": lambda q, c, lease: q.complete(c, lease),
    "reschedule": lambda q, c, lease: q.reschedule(c, lease, 1),
    "bury": lambda q, c, lease: q.bury(c, lease, {"reason": "X"}),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize(
    "how", ["claimed again", "released", "done", "never held", "another tenant's", "wrong token"]
)
async def test_a_lost_lease_writes_nothing(db, queue, stored, clock, held, name, how):
    lease = held.lease
    if how == "claimed again":
        clock.advance(31)
        await queue.run(queue.claim, "w2", 1, 30.0)
    elif how == "released":
        await queue.run(queue.release, "w1")
    elif how == "done":
        await queue.run(queue.complete, lease)
    elif how == "never held":
        lease = lease._replace(job_id="unknown")
    elif how == "another tenant's":
        lease = lease._replace(tenant_id="globex")
    else:
        lease = lease._replace(token=lease.token + 1)
    before = await stored()
    with pytest.raises(LeaseLost):
        await db.write(lambda conn: WRITES[name](queue, conn, lease))
    assert await stored() == before


@pytest.mark.parametrize("name", WRITES)
async def test_an_expired_lease_that_nobody_claimed_still_holds(db, queue, stored, clock, held, name):
    clock.advance(300)
    await db.write(lambda conn: WRITES[name](queue, conn, held.lease))
    assert await stored() != held


async def test_jobs_of_one_id_are_each_tenants_own(db, queue, clock, jobs):
    """Nothing that is done to one of them touches the other."""
    both = [
        NewJob("a", tenant, "pipeline", f"of-{tenant}", stage="normalise") for tenant in ("acme", "globex")
    ]
    assert await queue.run(queue.enqueue_many, both) == {("acme", "a"), ("globex", "a")}
    assert await queue.run(queue.enqueue_many, both) == set()
    acme, globex = await queue.run(queue.claim, "w1", 5, 30.0)
    assert (acme.subject, globex.subject) == ("of-acme", "of-globex")
    await queue.run(queue.advance, acme.lease, "fetch")
    await queue.run(queue.bury, globex.lease, {"reason": "X"})
    assert await queue.run(queue.cancel, "a", tenant_id="globex")
    assert await queue.run(queue.revive, "a", tenant_id="globex")
    await queue.run(queue.complete, acme.lease)
    [again] = await queue.run(queue.claim, "w1", 5, 30.0)
    assert (again.tenant_id, again.stage) == ("globex", "normalise")
    assert await queue.run(queue.drop, "a", tenant_id="globex")
    left = await db.read(lambda conn: conn.execute(sa.select(jobs.c.tenant_id, jobs.c.state)).all())
    assert left == [("acme", "done")]


async def test_a_holder_that_names_no_tenant_is_known_by_the_job_and_the_token(queue):
    both = [NewJob("a", tenant, "pipeline", "x", stage="normalise") for tenant in ("acme", "globex")]
    await queue.run(queue.enqueue_many, both[:1])
    [held] = await queue.run(queue.claim, "w1", 1, 30.0)
    assert await queue.run(queue.lease_by_id, "a", held.lease_token) == held.lease
    for job_id, token in (("a", held.lease_token + 1), ("b", held.lease_token)):
        with pytest.raises(LeaseLost):
            await queue.run(queue.lease_by_id, job_id, token)
    await queue.run(queue.enqueue_many, both[1:])
    await queue.run(queue.claim, "w1", 1, 30.0)
    with pytest.raises(LeaseLost):  # it could be either's
        await queue.run(queue.lease_by_id, "a", held.lease_token)


async def test_a_renewed_lease_lasts(db, queue, clock, held):
    clock.advance(25)
    until = await queue.run(queue.renew, held.lease, 30)
    assert until == clock.now() + timedelta(seconds=30)
    clock.advance(25)
    assert await queue.run(queue.claim, "w2", 1, 30.0) == []
    clock.advance(5)
    assert len(await queue.run(queue.claim, "w2", 1, 30.0)) == 1


async def test_an_expired_lease_is_not_renewed_beside_another_of_its_group(db, queue, clock):
    for job_id in ("a", "b"):
        job = NewJob(job_id, "acme", "pipeline", job_id, stage="normalise", group_key="call-1")
        await queue.run(queue.enqueue_many, [job])
    [first] = await queue.run(queue.claim, "w1", 1, 30.0)
    clock.advance(31)
    [second] = await queue.run(queue.claim, "w2", 1, 30.0)
    assert second.job_id != first.job_id  # that one has waited for longer
    with pytest.raises(LeaseLost):
        await queue.run(queue.renew, first.lease, 30)
    await queue.run(queue.complete, second.lease)
    await queue.run(queue.renew, first.lease, 30)


async def test_a_stage_begins_with_fresh_attempts(queue, stored, clock, held):
    await queue.run(queue.reschedule, held.lease, 0, error={"reason": "X"})
    [job] = await queue.run(queue.claim, "w1", 1, 30.0)
    assert job.attempts == 2
    names = {"recording": "tenants/acme/recordings/1"}
    await queue.run(queue.advance, job.lease, "transcribe", names)
    now = await stored()
    assert (now.stage, now.attempts, now.checkpoint, now.state) == ("transcribe", 1, names, JobState.LEASED)
    assert [entry["outcome"] for entry in now.history] == ["failed", "advanced"]
    assert now.last_error is None


async def test_what_a_run_made_is_merged_and_when_it_began_is_told(queue, stored, clock, held):
    began = clock.now()
    assert held.stage_began_at == began
    clock.advance(3)
    await queue.run(queue.advance, held.lease, "fetch", {"call": "c", "recording": "r1"}, Ran(began))
    job = await stored()
    assert job.stage_began_at == clock.now()
    await queue.run(queue.reschedule, held.lease, 0, True, {"reason": "X"}, {"recording": "r2"})
    clock.advance(9)
    [again] = await queue.run(queue.claim, "w2", 1, 30.0)
    assert again.stage_began_at == job.stage_began_at  # the stage's first try, not this one
    await queue.run(queue.complete, again.lease, {"analysis": "x"})
    done = await stored()
    assert done.checkpoint == {"call": "c", "recording": "r2", "analysis": "x"}
    first, second, third = done.history
    assert (first["began"], first["outcome"]) == (began.isoformat(), "advanced")
    assert "began" not in second
    assert (second["error"], third["outcome"]) == ({"reason": "X"}, "done")


async def test_a_job_can_be_dead_from_the_start(queue, stored, clock):
    reason = {"reason": "MALFORMED"}
    await queue.run(
        queue.enqueue_many, [NewJob("d", "acme", "pipeline", "event-9", stage="normalise", dead=reason)]
    )
    assert await queue.run(queue.claim, "w1", 5, 30.0) == []
    letter = await stored("d")
    assert (letter.job_id, letter.last_error, letter.buried_at) == ("d", reason, clock.now())
    assert await queue.run(queue.revive, "d", tenant_id="acme")
    assert [job.job_id for job in await queue.run(queue.claim, "w1", 5, 30.0)] == ["d"]


async def test_a_done_job_is_never_claimed_again(queue, stored, clock, held):
    await queue.run(queue.complete, held.lease)
    clock.advance(10_000)
    assert await queue.run(queue.claim, "w2", 1, 30.0) == []
    job = await stored()
    assert (job.state, job.visible_at, job.lease_owner, job.lease_until) == (JobState.DONE, None, None, None)
    assert not await queue.run(queue.revive, "a", tenant_id="acme")
    assert not await queue.run(
        queue.enqueue_many, [NewJob("a", "acme", "pipeline", "event-1", stage="normalise")]
    )


@pytest.mark.parametrize(("spend", "attempts"), [(True, 2), (False, 1)])
async def test_a_rescheduled_job_comes_back_after_its_delay(queue, stored, clock, held, spend, attempts):
    error = {"reason": "RECORDING_NOT_READY"}
    await queue.run(queue.reschedule, held.lease, timedelta(minutes=5), spend, error)
    assert (await stored()).last_error == error
    clock.advance(299)
    assert await queue.run(queue.claim, "w2", 1, 30.0) == []
    clock.advance(1)
    [job] = await queue.run(queue.claim, "w2", 1, 30.0)
    assert job.attempts == attempts
    assert job.history[-1]["error"] == error


async def test_a_dead_letter_has_its_story_and_revived_once(queue, stored, clock, held):
    error = {"reason": "MALFORMED", "message": "no call id"}
    await queue.run(queue.bury, held.lease, error)
    letter = await stored()
    assert (letter.last_error, letter.buried_at, letter.state) == (error, clock.now(), JobState.DEAD)
    assert letter.history[-1]["outcome"] == "buried"
    assert await queue.run(queue.revive, "a", tenant_id="acme")
    assert not await queue.run(queue.revive, "a", tenant_id="acme")
    [job] = await queue.run(queue.claim, "w2", 1, 30.0)
    assert (job.generation, job.attempts, job.stage, job.history) == (0, 1, "normalise", letter.history)
    assert job.lease_token > held.lease_token
    assert (await stored()).buried_at is None


async def test_a_forced_replay_is_a_new_generation(queue, stored, held):
    await queue.run(queue.advance, held.lease, "deliver", {"call": "c"})
    assert not await queue.run(queue.revive, "a", tenant_id="acme", new_generation=True)  # it runs
    await queue.run(queue.complete, held.lease)
    assert await queue.run(queue.revive, "a", tenant_id="acme", new_generation=True, stage="transcribe")
    assert not await queue.run(queue.revive, "a", tenant_id="acme", new_generation=True)
    job = await stored()
    assert (job.generation, job.stage, job.checkpoint, job.state) == (1, "transcribe", {}, JobState.WAITING)


async def test_a_clean_stop_gives_everything_back_unspent(queue, stored, held):
    for name in ("b", "c"):
        await queue.run(queue.enqueue_many, [NewJob(name, "acme", "pipeline", name, stage="normalise")])
    await queue.run(queue.claim, "w2", 1, 30.0)
    assert await queue.run(queue.release, "w1") == 1
    assert await queue.run(queue.release, "w1") == 0
    job = await stored()
    assert (job.state, job.attempts, job.lease_owner) == (JobState.WAITING, 0, None)
    assert job.history[-1]["outcome"] == "released"
    assert {j.job_id for j in await queue.run(queue.claim, "w3", 5, 30.0)} == {"a", "c"}


async def test_the_history_is_bounded_and_keeps_the_latest(engine, queue, held):
    if engine != "sqlite":
        pytest.skip("the gateway's check of_very_many_attempts_the_last_are_kept shows it there")
    lease = held.lease
    for number in range(HISTORY_KEPT + 5):
        await queue.run(queue.reschedule, lease, 0, error={"number": number})
        [job] = await queue.run(queue.claim, "w1", 1, 30.0)
        lease = job.lease
    assert len(job.history) == HISTORY_KEPT
    assert [entry["error"]["number"] for entry in job.history][-1] == HISTORY_KEPT + 4
    assert job.attempts == HISTORY_KEPT + 6


async def test_writes_join_the_services_own_transaction(db, queue, stored, held):
    def fails(conn):
        queue.complete(conn, held.lease)
        queue.enqueue_many(conn, [NewJob("next", "acme", "pipeline", "x", stage="deliver")])
        raise ValueError("changed my mind")

    with pytest.raises(ValueError, match="changed my mind"):
        await db.write(fails)
    assert await stored() == held
    assert await stored("next") is None


async def test_a_job_needs_an_id_and_a_tenant(queue):
    with pytest.raises(StoreError):
        await queue.run(queue.enqueue_many, [NewJob("", "acme", "pipeline", "x", stage="s")])
    with pytest.raises(StoreError):
        await queue.run(queue.enqueue_many, [NewJob("x", "", "pipeline", "x", stage="s")])


async def test_the_revision_makes_what_the_tables_declare(tmp_path):
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    metadata = sa.MetaData()
    jobs_table(metadata, "work")
    async with await Database.open(f"sqlite:///{tmp_path}/empty.db", sa.MetaData()) as db:
        await db.write(lambda conn: create_v1(Operations(MigrationContext.configure(conn)), "work"))
        made = sa.text("SELECT name, sql FROM sqlite_master WHERE name LIKE 'work%' ORDER BY name")
        by_revision = await db.read(lambda conn: conn.execute(made).all())
        await db.write(lambda conn: create_v2(Operations(MigrationContext.configure(conn)), "work"))
        await db.write(lambda conn: create_v3(Operations(MigrationContext.configure(conn)), "work"))
        assert await db.read(lambda conn: differences(conn, metadata)) == []
        indexes = sa.text("SELECT name, sql FROM sqlite_master WHERE name LIKE 'work_%' ORDER BY name")
        at_last = await db.read(lambda conn: conn.execute(indexes).all())
    async with await Database.open(f"sqlite:///{tmp_path}/declared.db", metadata) as db:
        assert await db.read(lambda conn: conn.execute(indexes).all()) == at_last
    assert undeclared(metadata) == []
    # It has run on other people's disks: a change of the tables is a create_v4, this one stays.
    text = "\n".join(row.sql for row in by_revision if row.sql)
    assert hashlib.sha256(text.encode()).hexdigest() == V1
