"""arq, a job queue in Redis: one job for each message, a hundred at a time.

A killed worker's jobs are run again once their time-out is over (five minutes): what had left already, leaves again.
"""

import asyncio
from typing import Any, cast

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.constants import default_queue_name
from arq.typing import WorkerCoroutine
from arq.worker import Worker

from pombo.bench.baselines.provider import Peer, client, people, send, told

CONCURRENCY = 100


def _settings(peer: Peer) -> RedisSettings:
    return RedisSettings(host="127.0.0.1", port=int(peer.redis_port))


async def prepare(peer: Peer, count: int) -> None:
    pool = await create_pool(_settings(peer))
    for phone, text in people(count):
        await pool.enqueue_job("send_message", phone, text)
    await pool.aclose()


async def work(peer: Peer) -> None:
    async with client(peer) as session:

        async def send_message(_: dict[Any, Any], phone: str, text: str) -> None:
            await send(session, peer, phone, text)

        worker = Worker(
            functions=[func(cast(WorkerCoroutine, send_message), name="send_message")],
            redis_settings=_settings(peer),
            max_jobs=CONCURRENCY,
            keep_result=0,
            handle_signals=False,
        )
        await worker.async_run()


async def waiting(peer: Peer) -> int:
    """Taken ones stay in the queue until they have ended: those in progress do not wait."""
    pool = await create_pool(_settings(peer))
    queued = int(await pool.zcard(default_queue_name))
    taken = len(await pool.keys("arq:in-progress:*"))
    await pool.aclose()
    return queued - taken


if __name__ == "__main__":
    asyncio.run(told(prepare, work, waiting))
