"""Appends and writes without end, printing each label once durable; killed by its parent test."""

import asyncio
import os
import sys

from trunkline_store import Database
from trunkline_store.testing.conformance import ENTRIES, METADATA, add, thing


async def main(url):
    async with await Database.open(url, METADATA) as db:
        appender = db.appender(ENTRIES)

        async def appends(worker):
            for number in range(1_000_000):
                label = f"a{os.getpid()}-{worker}-{number}"
                await appender.append((label, db.clock.now(), b"x" * 2500))
                sys.stdout.write(label + "\n")
                sys.stdout.flush()

        async def writes(worker):
            for number in range(1_000_000):
                label = f"w{os.getpid()}-{worker}-{number}"
                await db.write(add(**thing(label)))
                sys.stdout.write(label + "\n")
                sys.stdout.flush()

        await asyncio.gather(*[appends(n) for n in range(32)], *[writes(n) for n in range(4)])


asyncio.run(main(sys.argv[1]))
