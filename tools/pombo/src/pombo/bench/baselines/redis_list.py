"""A loop that pops a Redis list and sends what it popped. A kill loses what was popped and not yet sent."""

import asyncio
import json
from typing import Any

from redis.asyncio import Redis

from pombo.bench.baselines.provider import Peer, client, people, send, told

QUEUE = "outgoing"
BATCH = 1000


def _redis(peer: Peer) -> Any:
    return Redis(host="127.0.0.1", port=int(peer.redis_port))


async def prepare(peer: Peer, count: int) -> None:
    async with _redis(peer) as redis:
        messages = [json.dumps(person) for person in people(count)]
        for first in range(0, count, BATCH):
            await redis.rpush(QUEUE, *messages[first : first + BATCH])


async def work(peer: Peer) -> None:
    async with _redis(peer) as redis, client(peer) as session:
        while True:
            popped = await redis.blpop([QUEUE], timeout=5)
            if popped is not None:
                phone, text = json.loads(popped[1])
                await send(session, peer, phone, text)


async def waiting(peer: Peer) -> int:
    async with _redis(peer) as redis:
        return int(await redis.llen(QUEUE))


if __name__ == "__main__":
    asyncio.run(told(prepare, work, waiting))
