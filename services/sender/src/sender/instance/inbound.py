"""How many messages a number receives each second: Meta counts them towards its rate as well."""

from collections.abc import Mapping
from uuid import UUID

import asyncpg

# The mean fades with this time constant.
FADE_S = 10.0

# The row is there: the batch's traffic was noted before.
_NOTE = """
UPDATE ingest_watermark w
SET inbound_per_s = k.received / $3::float8 + w.inbound_per_s
      * exp(greatest(-50, least(0, extract(epoch FROM w.inbound_at - clock_timestamp()) / $3::float8))),
    inbound_at = clock_timestamp()
FROM unnest($1::uuid[], $2::int[]) AS k(instance_id, received)
WHERE w.instance_id = k.instance_id
"""
_READ = """
SELECT instance_id,
  inbound_per_s * exp(least(0, extract(epoch FROM inbound_at - clock_timestamp()) / $1::float8)) AS per_s
FROM ingest_watermark WHERE inbound_at > clock_timestamp() - make_interval(secs => 10 * $1::float8)
"""


async def note(raw: asyncpg.Connection, received: Mapping[UUID, int]) -> None:
    if received:
        await raw.execute(_NOTE, list(received), list(received.values()), FADE_S)


async def read(raw: asyncpg.Connection) -> dict[UUID, float]:
    """Messages a second, of numbers that received any lately."""
    return {row["instance_id"]: float(row["per_s"]) for row in await raw.fetch(_READ, FADE_S)}
