"""One schedule: a world made from a seed, providers that send, faults while they do, then peace, then the judgement."""

import asyncio
import contextlib
import gc
import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import purgatory.domain.model
from trunkline_cli.suite.seed import SeededSource, SeededTenant
from trunkline_gateway import schema
from trunkline_jobs import queue
from trunkline_runtime.errors import TrunklineError
from trunkline_runtime.observe import logs
from trunkline_tenant import schema as tenant_schema

from tests.simulation import processes
from tests.simulation.faults import Faults
from tests.simulation.ledger import Ledger
from tests.simulation.nodes import Life, Node, Wire, task_factory
from tests.simulation.store import Disk
from tests.simulation.virtual import LoopTime, VirtualLoop
from tools.chaos.conversations import Conversations
from tools.chaos.stored import Stored, of_gateway, of_tenant, spooled, still_waiting
from tools.chaos.verdict import judge

_PATIENCE_SECONDS = 3_000.0  # of virtual time, from the last fault until nothing waits
TENANTS = ("acme", "globex")
_LOGS = (
    "trunkline_gateway.intake.inbox", "trunkline_gateway.pipeline.kind",
    "trunkline_work.kinds", "trunkline_work.leases", "trunkline_work.reports", "trunkline_work.worker",
)  # fmt: skip


def _memory():
    """Where files cost no disk, if there is such a place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _tenant(name):
    url = f"http://gateway/hooks/{name}-calls"
    source = SeededSource(f"{name}-calls", "callrail", f"secret of {name}", url, "227799611", "key")
    return SeededTenant(name, "", (source,))


@dataclass
class Outcome:
    """What one schedule showed; `trace` tells one run of a seed from another."""

    seed: int
    violations: list[str]
    counts: Counter = field(default_factory=Counter)
    trace: tuple = ()


class _Unheard:
    """A logger that says nothing and, unlike a mock, keeps nothing: a worker runs thousands of schedules."""

    def __getattr__(self, level):
        return self._unheard

    def _unheard(self, *args, **values):
        pass


class World:
    """Everything of one schedule."""

    def __init__(self, seed, loop, disks, spool_folder, tell):
        self.loop = loop
        self._tell = tell
        self.listens = tell is not None
        self.rng = random.Random(f"simulation {seed}")
        random.seed(seed)  # production code's jitter
        self.gateway_disk, self.tenant_disk = disks
        self.spool_folder = spool_folder
        self.unclosed = []
        self.spool = None  # of the gateway's last life
        self.unclosed = []
        self.violations = []
        self.background = set()
        self.stops = {}
        self.started = 0
        self.recordings, self.operations, self.transcripts, self.analyses = {}, {}, {}, {}
        self.faults = Faults(self.rng, loop)
        self.batch = self.rng.choice((1, 2, 5, 256))
        self.ledger = Ledger(self, processes.IN_FLIGHT)
        self.wire = Wire(self)
        self.gateway = Node("gateway", processes.gateway(self), self)
        self.tenant = Node("tenant", processes.tenant(self), self)
        self.media = Node("media", processes.media(self), self)
        self.workers = [Node(f"worker-{n}", processes.worker(self, n), self) for n in (1, 2)]
        self.nodes = {n.name: n for n in (self.tenant, self.media, self.gateway, *self.workers)}
        self.providers = Life(Node("providers", None, self))
        tenants = [_tenant(name) for name in TENANTS]
        self.sources = {
            t.sources[0].id: processes.resolved(t.name, t.sources[0], n) for n, t in enumerate(tenants, 1)
        }
        if self.rng.random() < 0.3:  # one of them floods
            tenants = [tenants[0]] * 4 + tenants[1:]
        self.conversations = Conversations(tenants, self.rng, now=loop.wall)

    def tell(self, *words):
        """Say what happened, when somebody listens."""
        if self._tell is not None:
            self._tell(f"{self.loop.time():9.4f} {' '.join(map(str, words))}")

    def broken(self, sentence):
        """Note that a promise was broken."""
        self.tell("BROKEN", sentence)
        if len(self.violations) < 20:
            self.violations.append(f"{sentence} (at {self.loop.time():.3f} s)")

    def spawn(self, coro):
        """Start a task that belongs to no process."""
        task = asyncio.Task(coro, loop=self.loop)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task


class Simulation:
    """Runs schedules one after another in this process, over disks that last as long as it is installed."""

    def __init__(self):
        logs.configure("simulation", level="error")
        self._disks = [Disk(schema.metadata), Disk(tenant_schema.metadata)]
        self._spool_folder = None
        self._statements = {}
        self._runs = 0

    @contextlib.contextmanager
    def installed(self):
        """Put virtual time where the breakers' library looks for it, and make a folder for the spools."""
        with contextlib.ExitStack() as stack:
            for disk in self._disks:
                stack.callback(disk.close)
            stack.enter_context(mock.patch.object(purgatory.domain.model, "time", LoopTime(time)))
            self._spool_folder = Path(stack.enter_context(TemporaryDirectory(dir=_memory())))
            for name in ("Claims", "Leases"):  # stateless, but for statements that take milliseconds to build
                stack.enter_context(mock.patch.object(queue, name, self._once(getattr(queue, name))))
            for quiet in _LOGS:
                stack.enter_context(mock.patch(f"{quiet}.log", _Unheard()))
            gc.disable()  # a run's rubbish is collected in one go, see `run`
            stack.callback(gc.enable)
            yield self

    def _once(self, make):
        def made(*args, **named):
            key = (make, *args, *sorted(named.items()))
            if key not in self._statements:
                self._statements[key] = make(*args, **named)
            return self._statements[key]

        return made

    def run(self, seed, tell=None):
        """Run one schedule; nothing of it is left behind. `tell` is given what happens, in sentences."""
        self._runs += 1
        if self._runs % 25 == 0:
            gc.collect()
        loop = VirtualLoop()
        loop.set_task_factory(task_factory)
        loop.set_exception_handler(lambda *_: None)
        folder = self._spool_folder / "spool"
        shutil.rmtree(folder, ignore_errors=True)
        world = World(seed, loop, self._disks, folder, tell)
        for disk in self._disks:
            disk.wipe(world.ledger.committed if disk is world.gateway_disk else None)
        for name in TENANTS:
            world.tenant_disk.raw.execute(
                "INSERT INTO tenants (tenant_id, display_name, state, retention, version, create_time, update_time)"
                " VALUES (?, '', 1, x'', 1, 0, 0)", (name,),
            )  # fmt: skip
        try:
            loop.run_until_complete(self._live(world))
        except Exception as error:
            world.broken(f"the schedule broke off: {error!r}")
        if not world.violations:
            self._judge(world)  # before anything else happens
        world.faults.stop()
        loop.finish()
        if world.spool is not None:
            world.spool.log.close()
        world.gateway_disk.watch = None  # which leads to this world
        counts = Counter(
            schedules=1,
            kills=sum(node.kills for node in world.nodes.values()),
            acknowledged=sum(len(m.receipts) for c in world.conversations.made for m in c.messages),
            events=self._one(world, "SELECT count(*) FROM events"),
            leases=world.ledger.leases,
            seconds=int(loop.elapsed),
        )
        trace = (round(loop.elapsed, 9), tuple(sorted(counts.items())))
        return Outcome(seed, world.violations, counts, trace)

    async def _live(self, world):
        world.tell("faults:", world.faults)
        for node in world.nodes.values():
            await node.start()
        senders = [world.spawn(self._send(world)) for _ in range(world.rng.choice((1, 2, 3)))]
        self._arrange(world)
        await asyncio.sleep(world.faults.lasts)
        world.faults.stop()
        world.tell("no more faults")
        until = world.loop.time() + _PATIENCE_SECONDS
        for sender in senders:
            while not sender.done():
                if world.loop.time() > until:
                    return world.broken("a provider is still refused")
                await asyncio.sleep(0.5)
            sender.result()
        while any((left := self._left(world)).values()):
            if world.loop.time() > until:
                return world.broken(f"still waiting long after the last fault: {left}")
            await asyncio.sleep(1.0)
        return None

    def _arrange(self, world):
        """Put kills, jumps of the clock and clean stops on the loop's agenda."""
        loop, faults = world.loop, world.faults
        for at, name in faults.kills:
            loop.call_later(at, lambda name=name: world.nodes[name].kill(faults.downtime()))
        for at, by in faults.jumps:
            loop.call_later(at, lambda by=by: self._jump(world, by))
        for at, name in faults.clean_stops:
            loop.call_later(at, lambda name=name: world.stops[name].set())

    def _jump(self, world, by):
        world.loop.offset += by
        world.tell("the wall clock jumps by", by, "s")

    async def _send(self, world):
        """One provider: conversations after another, each webhook repeated until it is acknowledged."""
        rng, faults = world.rng, world.faults
        life = world.providers
        for _ in range(rng.choice((1, 1, 1, 2))):
            conversation = world.conversations.make()
            for message in conversation.messages:
                wanted = 1 + faults.chance("redeliver")
                while len(message.receipts) < wanted:
                    try:
                        status, body = await world.wire.ask(life, world.gateway, "post", message.webhook, 3.0)
                    except TrunklineError:
                        status, body = 0, {}
                    if status == 202:
                        message.receipts.append(body["receiptId"])
                        world.tell(
                            "acknowledged",
                            message.webhook.url,
                            conversation.provider_call_id,
                            body["receiptId"],
                        )
                        continue
                    if status not in (0, 503):
                        world.broken(f"a sound webhook was answered {status} {body}")
                        return
                    await asyncio.sleep(rng.uniform(0.1, 1.5))
            await asyncio.sleep(rng.uniform(0.0, faults.lasts / 3))

    def _left(self, world):
        left = still_waiting(world.gateway_disk.raw)
        left["on their way"] = world.wire.webhooks
        left["spooled"] = spooled(world.spool_folder)
        return left

    def _one(self, world, query):
        return world.gateway_disk.raw.execute(query).fetchone()[0]

    def _judge(self, world):
        receipts, events, rejections = of_gateway(world.gateway_disk.raw)
        calls, leads, leads_calls = of_tenant(world.tenant_disk.raw)
        analyses = Counter((call.split("/")[1], call.split("/")[3]) for call, _, _ in world.analyses)
        stored = Stored(
            receipts,
            events,
            calls,
            leads,
            leads_calls,
            dict(Counter(world.recordings.values())),
            dict(Counter(world.transcripts.values())),
            dict(analyses),
            rejections,
        )
        for sentence in judge(world.conversations.made, stored).sentences():
            world.broken(sentence)
