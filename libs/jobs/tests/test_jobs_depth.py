"""How much waits is counted by class: what is due and nobody works on, and since when."""

from datetime import timedelta

from trunkline_jobs import Depth, Depths, NewJob, QueueClass


def new(job_id, **values):
    return NewJob(job_id, "acme", "pipeline", f"event-{job_id}", stage="normalise", **values)


async def depths(db, queue, jobs, **settings):
    return await db.read(lambda conn: Depths(jobs, **settings).of(conn, queue.now(conn)))


async def test_only_jobs_that_are_due_and_not_leased_wait(db, queue, jobs):
    assert set((await depths(db, queue, jobs)).values()) == {Depth()}
    later = db.clock.now() + timedelta(hours=1)
    await queue.run(
        queue.enqueue_many,
        [
            new("a"),
            new("b"),
            new("later", visible_at=later),
            new("dead", dead={"message": "no"}),
            new("batch", queue_class=QueueClass.BATCH),
        ],
    )
    db.clock.advance(timedelta(seconds=7))
    found = await depths(db, queue, jobs)
    assert found == {
        QueueClass.REALTIME: Depth(2, 7.0),
        QueueClass.BATCH: Depth(1, 7.0),
        QueueClass.BACKGROUND: Depth(),
    }
    assert len(await queue.run(queue.claim, "w1", 1, 30.0)) == 1
    assert (await depths(db, queue, jobs))[QueueClass.REALTIME].jobs == 1
    db.clock.advance(timedelta(seconds=31))  # its lease is over: it waits again
    assert (await depths(db, queue, jobs))[QueueClass.REALTIME].jobs == 2


async def test_a_look_is_bounded(db, queue, jobs):
    await queue.run(queue.enqueue_many, [new(f"{n:03}") for n in range(30)])
    assert (await depths(db, queue, jobs, most=10))[QueueClass.REALTIME].jobs == 10


async def test_dead_letters_are_counted_up_to_a_bound(db, queue, jobs):
    async def dead(**settings):
        return await db.read(Depths(jobs, **settings).dead)

    assert await dead() == 0
    await queue.run(queue.enqueue_many, [new("a"), *(new(f"d{n}", dead={"message": "no"}) for n in range(5))])
    assert await dead() == 5
    assert await dead(most=3) == 3
