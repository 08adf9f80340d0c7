"""Processes that can die at any moment, and the network between them that loses, delays and repeats."""

import asyncio
import contextvars

from trunkline_runtime.errors import TABLE, DeadlineExceeded, TrunklineError, Unavailable
from trunkline_store.errors import StoreError

LIFE = contextvars.ContextVar("life", default=None)
_OF_CODE = {code.name: kind for code, kind in TABLE.items()}


class Life:
    """One run of a process: its tasks, and whether it lives. A dead one changes nothing any more."""

    def __init__(self, node):
        self.node = node
        self.alive = True
        self.tasks = {}

    def spawn(self, coro):
        """Start a task of this process; tasks that it starts belong to it too."""
        context = contextvars.copy_context()
        context.run(LIFE.set, self)
        # The factory is asked in the caller's context, so this one is added by hand.
        return self.add(asyncio.Task(coro, loop=asyncio.get_running_loop(), context=context))

    def add(self, task):
        self.tasks[task] = None
        task.add_done_callback(lambda done: self.tasks.pop(done, None))
        return task

    def check(self):
        """Raise if this process is dead: nothing after this happens."""
        if not self.alive:
            raise asyncio.CancelledError

    def end(self):
        self.alive = False
        for task in list(self.tasks):
            task.cancel()


def task_factory(loop, coro, **options):
    """Every task belongs to the process whose task started it."""
    task = asyncio.Task(coro, loop=loop, **options)
    life = LIFE.get()
    return task if life is None else life.add(task)


class Node:
    """A process that is started again after it died; `build(life)` wires it and returns its loops and handlers."""

    def __init__(self, name, build, world):
        self.name = name
        self._build = build
        self._world = world
        self.life = None
        self.handlers = {}
        self.kills = 0

    @property
    def up(self):
        return self.life is not None and self.life.alive

    async def start(self):
        self.life = life = Life(self)
        loops, self.handlers = await self._build(life)
        for loop in loops:
            life.spawn(self._watched(loop, life))

    def kill(self, down):
        """Kill it now, wherever it is; it is started again after `down` seconds."""
        if not self.up:
            return
        self.kills += 1
        self._world.tell(self.name, "dies, for", down, "s")
        self.handlers = {}
        self.life.end()
        asyncio.get_running_loop().call_later(down, self._again)

    def _again(self):
        self._world.spawn(self.start())

    async def _watched(self, loop, life):
        try:
            await loop
        except Exception as error:
            if life.alive:
                self._world.broken(f"{self.name}: a loop of it ended: {error!r}")
        else:
            if life.alive:  # a clean stop: a new one takes its place
                life.end()
                self.handlers = {}
                asyncio.get_running_loop().call_later(0.1, self._again)


class Wire:
    """RPCs and HTTP between nodes."""

    def __init__(self, world):
        self._world = world
        self.webhooks = 0
        """Webhooks on their way or being received, also those whose sender has given up."""

    def method(self, life, target, name):
        """A stub's method as `life` calls it: `await method(request, timeout=seconds)`."""

        async def call(request, *, timeout):
            return await self.ask(life, target, name, request, timeout)

        return call

    async def ask(self, life, target, name, request, timeout):
        """Ask; raises what a stub's caller sees. The work may be done although it raises, and may be done twice."""
        life.check()
        if self._world.listens:
            self._world.tell(life.node.name, "asks", target.name, name, " ".join(str(request).split())[:200])
        loop, faults = asyncio.get_running_loop(), self._world.faults
        answer = loop.create_future()
        tasks = []
        copies = 2 if faults.chance("repeat") else 1
        for _ in range(copies):
            if faults.cut(life.node.name, target.name) or faults.chance("lose_request"):
                loop.call_later(faults.delay(), _fail, answer, Unavailable("the connection was lost"))
                continue
            self.webhooks += name == "post"
            loop.call_later(faults.delay(), self._deliver, target, name, request, answer, tasks)
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise DeadlineExceeded(f"{name} took too long") from None
        finally:
            life.check()
            if not answer.done() and faults.chance("cancel_late"):
                for task in tasks:
                    task.cancel()

    def _deliver(self, target, name, request, answer, tasks):
        handler = target.handlers.get(name) if target.up else None
        if handler is None:
            self.webhooks -= name == "post"
            _fail(answer, Unavailable(f"{target.name} is not there"))
            return
        task = target.life.spawn(self._serve(target, name, handler, request, answer))
        task.add_done_callback(lambda _: self._served(name))
        tasks.append(task)

    def _served(self, name):
        self.webhooks -= name == "post"

    async def _serve(self, target, name, handler, request, answer):
        faults = self._world.faults
        life = target.life
        try:
            result = await handler(request)
        except asyncio.CancelledError:
            _fail(answer, Unavailable(f"{target.name} went away"))
            raise
        except TrunklineError as error:
            self._back(answer, error)
        except StoreError as error:
            kind = _OF_CODE.get(error.code, Unavailable)
            self._back(answer, kind.of(str(error), reason=error.reason))
        except Exception as error:
            self._world.broken(f"{target.name}: {name} broke: {error!r}")
            _fail(answer, Unavailable("it broke"))
        else:
            life.check()
            if faults.chance("lose_reply"):
                self._back(answer, Unavailable("the connection was lost"))
            else:
                asyncio.get_running_loop().call_later(faults.delay(), _done, answer, result)

    def _back(self, answer, error):
        asyncio.get_running_loop().call_later(self._world.faults.delay(), _fail, answer, error)


def _fail(answer, error):
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # its asker may be gone


def _done(answer, result):
    if not answer.done():
        answer.set_result(result)
