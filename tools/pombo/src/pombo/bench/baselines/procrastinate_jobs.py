"""procrastinate, a job queue in PostgreSQL: one job for each message, a hundred at a time.

Jobs of a killed worker stay `doing` until somebody retries them; whoever does sends again what had left already.
"""

import asyncio
from typing import Any

import aiohttp
import procrastinate

from pombo.bench.baselines.provider import Peer, client, people, send, told

CONCURRENCY = 100
CONNECTIONS = 20
BATCH = 1000


def _app(peer: Peer, session: aiohttp.ClientSession | None) -> procrastinate.App:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=peer.database, max_size=CONNECTIONS))

    @app.task(name="send_message")
    async def send_message(phone: str, text: str) -> None:
        assert session is not None
        await send(session, peer, phone, text)

    return app


async def prepare(peer: Peer, count: int) -> None:
    app = _app(peer, None)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        messages = people(count)
        for first in range(0, count, BATCH):
            jobs: list[Any] = [{"phone": phone, "text": text} for phone, text in messages[first : first + BATCH]]
            await app.configure_task("send_message").batch_defer_async(*jobs)


async def work(peer: Peer) -> None:
    async with client(peer) as session:
        app = _app(peer, session)
        async with app.open_async():
            await app.run_worker_async(concurrency=CONCURRENCY)


async def waiting(peer: Peer) -> int:
    app = _app(peer, None)
    async with app.open_async():
        return len(list(await app.job_manager.list_jobs_async(status="todo")))


if __name__ == "__main__":
    asyncio.run(told(prepare, work, waiting))
