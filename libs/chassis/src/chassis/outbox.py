"""The outbox: events leave a transaction as rows, and one relay per schema publishes them in order, at least once."""

import asyncio
import contextlib
from collections.abc import Sequence

import asyncpg
import orjson
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis import kafka
from chassis.database import Database, driver, is_passing, listen, open_raw
from chassis.kafka import Encoded, Outgoing, Producer, encoded
from chassis.lifecycle import backoff_s, crash_point, pause
from chassis.telemetry import counter, gauge, log

BATCH_ROWS = 500
BATCH_BYTES = 4 * 1024 * 1024
KEEP_S = 3600.0  # published rows stay that long, to be looked at
DELETE_ROWS = 5000
STOP_S = 5.0
_DELETE_EACH_S = 60.0


def create_outbox() -> list[str]:
    """For a migration of the service's schema."""
    return [
        """
        CREATE TABLE outbox (
          position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          id uuid NOT NULL,
          topic text NOT NULL,
          key text,
          headers jsonb NOT NULL,
          value bytea NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          published_at timestamptz
        ) WITH (autovacuum_vacuum_scale_factor = 0.02)
        """,
        "CREATE INDEX outbox_unpublished ON outbox (position) WHERE published_at IS NULL",
        "CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL",
    ]


async def append(connection: AsyncConnection, records: Sequence[Outgoing]) -> None:
    """One statement, in the order given, and one NOTIFY outbox_<schema> per transaction. Raises kafka.TooLarge."""
    await append_encoded(connection, [encoded(record) for record in records])


async def append_encoded(connection: AsyncConnection, records: Sequence[Encoded]) -> None:
    """The same for records that were encoded before."""
    if not records:
        return
    headers = [{name: value.decode() for name, value in record.headers} for record in records]
    raw = await driver(connection)
    await raw.execute(
        """
        WITH given AS (
          SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[])
            WITH ORDINALITY AS r(id, topic, key, headers, value, nth)
        ), appended AS (
          INSERT INTO outbox (id, topic, key, headers, value)
          SELECT id, topic, key, headers::jsonb, value FROM given ORDER BY nth
        )
        SELECT pg_notify('outbox_' || current_schema(), '')
        """,
        [named["ce_id"] for named in headers],
        [record.topic for record in records],
        [None if record.key is None else record.key.decode() for record in records],
        [orjson.dumps(named).decode() for named in headers],
        [record.value for record in records],
    )


async def relay(
    database: Database,
    producer: Producer,
    *,
    schema: str,
    dsn: str | SecretStr,
    stopping: asyncio.Event,
    poll_s: float = 1.0,
    keep_s: float = KEEP_S,
) -> None:
    """Publishes until `stopping`; run it in every replica: one works, the others wait for its advisory lock.

    Woken by NOTIFY, with a look every `poll_s` in case one was missed. Waits out PostgreSQL and Kafka.
    """
    wake = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(listen(dsn, f"outbox_{schema}", wake))
        work = tasks.create_task(_lead_again(database, producer, schema, dsn, stopping, wake, poll_s, keep_s))
        await stopping.wait()
        wake.set()
        await asyncio.wait({work}, timeout=STOP_S)
        work.cancel()  # Kafka is away: the rows stay, and the next relay publishes them
        listener.cancel()


async def _lead_again(
    database: Database,
    producer: Producer,
    schema: str,
    dsn: str | SecretStr,
    stopping: asyncio.Event,
    wake: asyncio.Event,
    poll_s: float,
    keep_s: float,
) -> None:
    failures = 0
    while not stopping.is_set():
        try:
            await _lead(database, producer, schema, dsn, stopping, wake, poll_s, keep_s)
            failures = 0
        except Exception as error:
            if not (is_passing(error) or kafka.passes(error)):
                raise
            failures += 1
            log.warning("relay_interrupted", schema=schema, error=type(error).__name__)
            await pause(stopping, backoff_s(failures))


async def _lead(
    database: Database,
    producer: Producer,
    schema: str,
    dsn: str | SecretStr,
    stopping: asyncio.Event,
    wake: asyncio.Event,
    poll_s: float,
    keep_s: float,
) -> None:
    """Works for as long as its own connection holds the lock."""
    lock = await open_raw(dsn, application_name=f"relay {schema}")
    try:
        if not await lock.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", f"relay {schema}"):
            await pause(stopping, poll_s)
            return
        clock = asyncio.get_running_loop().time
        delete_at = clock()
        while not stopping.is_set() and not lock.is_closed():
            wake.clear()
            more = await _publish_due(database, producer, schema, lock)
            if clock() >= delete_at:
                deleted = await _delete_published(database, keep_s)
                delete_at = clock() + (0 if deleted == DELETE_ROWS else _DELETE_EACH_S)
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(poll_s):
                        await wake.wait()
    finally:
        lock.terminate()


async def _publish_due(database: Database, producer: Producer, schema: str, lock: asyncpg.Connection) -> bool:
    """Reads by *unmarked*, not by last position: what commits late is still unmarked (index outbox_unpublished).

    True if there was more than one batch takes; of what came meanwhile a NOTIFY tells.
    """
    async with database.reading() as raw:
        rows = await raw.fetch(
            """
            SELECT position, topic, key, headers::text AS headers, value, age_s FROM (
              SELECT *, sum(octet_length(value)) OVER (ORDER BY position) - octet_length(value) AS bytes_before,
                     extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s
              FROM (SELECT * FROM outbox WHERE published_at IS NULL ORDER BY position LIMIT $1) AS due
            ) AS sized WHERE bytes_before < $2 ORDER BY position
            """,
            BATCH_ROWS,
            BATCH_BYTES,
        )
    gauge("pombo_outbox_oldest_seconds", "Age of the oldest unpublished row.", ("schema",)).labels(schema).set(
        rows[0]["age_s"] if rows else 0
    )
    if not rows or lock.is_closed():
        return False
    await producer.publish_encoded([_stored(row) for row in rows])
    crash_point("outbox_published")
    async with database.transaction() as connection:
        await (await driver(connection)).execute(
            "UPDATE outbox SET published_at = clock_timestamp() WHERE position = ANY($1::bigint[])",
            [row["position"] for row in rows],
        )
    counter("pombo_outbox_published_total", "Rows published and marked.", ("schema",)).labels(schema).inc(len(rows))
    return len(rows) == BATCH_ROWS or sum(len(row["value"]) for row in rows) >= BATCH_BYTES


async def _delete_published(database: Database, keep_s: float) -> int:
    """A small step (index outbox_published), so that no long lock or bloat builds up."""
    async with database.transaction() as connection:
        status: str = await (await driver(connection)).execute(
            """
            DELETE FROM outbox WHERE position IN (
              SELECT position FROM outbox WHERE published_at < clock_timestamp() - make_interval(secs => $1)
              ORDER BY published_at LIMIT $2
            )
            """,
            keep_s,
            DELETE_ROWS,
        )
    return int(status.split()[-1])


def _stored(row: asyncpg.Record) -> Encoded:
    headers = [(name, value.encode()) for name, value in orjson.loads(row["headers"]).items()]
    return Encoded(row["topic"], None if row["key"] is None else row["key"].encode(), row["value"], headers)
