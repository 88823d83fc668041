"""A worker that polls a table: each 5 s the next ten rows, one POST after the other with a pause, then marked as sent.

A kill between a POST and its mark sends that message again; what was not marked is found again.
"""

import asyncio
import time

import asyncpg

from pombo.bench.baselines.provider import Peer, client, people, send, told

EVERY_S = 5.0
AT_ONCE = 10
PAUSE_S = 0.1


async def prepare(peer: Peer, count: int) -> None:
    connection = await asyncpg.connect(peer.database)
    try:
        await connection.execute(
            "CREATE TABLE outgoing (id serial PRIMARY KEY, phone text, content text, sent_at timestamptz, wamid text)"
        )
        await connection.copy_records_to_table("outgoing", records=people(count), columns=["phone", "content"])
    finally:
        await connection.close()


async def work(peer: Peer) -> None:
    connection = await asyncpg.connect(peer.database)
    async with client(peer) as session:
        while True:
            began_s = time.monotonic()
            rows = await connection.fetch(
                "SELECT id, phone, content FROM outgoing WHERE sent_at IS NULL ORDER BY id LIMIT $1", AT_ONCE
            )
            for row in rows:
                wamid = await send(session, peer, row["phone"], row["content"])
                await connection.execute(
                    "UPDATE outgoing SET sent_at = now(), wamid = $2 WHERE id = $1", row["id"], wamid
                )
                await asyncio.sleep(PAUSE_S)
            await asyncio.sleep(max(0.0, EVERY_S - (time.monotonic() - began_s)))


async def waiting(peer: Peer) -> int:
    connection = await asyncpg.connect(peer.database)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM outgoing WHERE sent_at IS NULL"))
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(told(prepare, work, waiting))
