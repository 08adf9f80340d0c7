"""The providers' side: clients that repeat each webhook until it is acknowledged, in a thread of their own."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path

import httpx
from trunkline_cli.suite.recordings import RecordingServer

from tools.chaos.conversations import Conversation, Conversations, Message

_ANSWER_SECONDS = 3.0


class Clients:
    """Starts with `with`; `finish` ends the load once everything that was begun is acknowledged."""

    def __init__(
        self,
        conversations: Conversations,
        recordings: RecordingServer,
        file: Path,
        rng: random.Random,
        count: int,
    ):
        """`count` clients at once; every recording that they tell of is `file`."""
        self._conversations = conversations
        self._recordings = recordings
        self._file = file
        self._rng = rng
        self._count = count
        self._stop = threading.Event()
        self._give_up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="clients")
        self.refused: list[str] = []  # answers that no sound webhook should get
        self.attempts = 0
        self.acknowledged = 0

    def __enter__(self) -> Clients:
        """Begin to send."""
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Hang up, whatever is on its way."""
        self._stop.set()
        self._give_up.set()
        self._thread.join()

    def finish(self, seconds: float) -> bool:
        """Begin nothing new; True when all that was begun is acknowledged within that time."""
        self._stop.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=4 * self._count)
        async with httpx.AsyncClient(timeout=_ANSWER_SECONDS, limits=limits) as http:
            await asyncio.gather(*(self._client(http) for _ in range(self._count)))

    async def _client(self, http: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            conversation = self._conversations.make()
            self._record(conversation)
            if self._rng.random() < 0.3:
                await asyncio.gather(*(self._send(http, message) for message in conversation.messages))
            else:
                for message in conversation.messages:
                    await self._send(http, message)
            await asyncio.sleep(self._rng.uniform(0.05, 0.6))

    def _record(self, conversation: Conversation) -> None:
        if conversation.recordings:
            name = conversation.provider_call_id
            self._recordings.files[name] = self._recordings.files[name.removeprefix("CAL")] = self._file

    async def _send(self, http: httpx.AsyncClient, message: Message) -> None:
        """Send until it is acknowledged, and sometimes once or twice more, as providers do."""
        wanted = 1 + self._rng.choice((0, 0, 0, 0, 0, 0, 1, 2))
        while len(message.receipts) < wanted and not self._give_up.is_set():
            self.attempts += 1
            hook = message.webhook
            try:
                answer = await http.post(hook.url, content=hook.body, headers=hook.headers)
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 202:
                message.receipts.append(answer.json()["receiptId"])
                self.acknowledged += 1
                continue
            if answer is not None and answer.status_code != 503:
                self.refused.append(f"{answer.status_code} {answer.text}")
            await asyncio.sleep(self._rng.uniform(0.05, 0.3))
