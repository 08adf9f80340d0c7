"""How much sound waits is counted from the queue, whoever looks, and what is worked on from the process."""

import asyncio

from prometheus_client import REGISTRY
from test_audio_operations import Asking, begun, held
from test_audio_service import serving
from trunkline_audio import schema
from trunkline_audio.waiting import WaitingSound
from trunkline_jobs import Queue


def shown(name):
    return REGISTRY.get_sample_value(f"trunkline_audio_{name}_seconds")


async def test_waiting_sound_is_what_no_replica_works_on_yet(tmp_path):
    engine = held()
    async with serving(tmp_path, engine, transcriptions_at_once=1) as suite:
        asking = Asking(suite)
        # One tone is of two seconds. The first takes the only place, the others wait.
        for number in range(4):
            await suite.fetch(identity=f"rec-{number}")
        names = [(await asking.start(name=f"tenants/acme/recordings/rec-{n}")).name for n in range(4)]
        await begun(engine)
        assert shown("in_hand") == 2
        queue = Queue(suite.db, schema.jobs)
        await WaitingSound(suite.db, queue).look()
        assert shown("waiting") == 6
        await WaitingSound(suite.db, queue, sample=1).look()
        assert shown("waiting") == 6, "further ones count as the average of those that are looked at"
        engine.gate.set()
        await asyncio.gather(*(asking.wait(name) for name in names))
        await WaitingSound(suite.db, queue).look()
        assert (shown("waiting"), shown("in_hand")) == (0, 0)
