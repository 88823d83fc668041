"""What a batch looks up, it finds by an index probe for each row, also by a plan made while the tables looked empty."""

import asyncpg
import pytest

from backing import MakeDatabase
from projection_parts import enter, migrate_projections
from projections.campaign import recipients, replies
from projections.contact import people

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize(
    ("statement", "given", "probed"),
    [
        (recipients.SUMMARIES, 1, ["dispatch_recipient", "reply_recipient"]),
        (replies._EXCHANGE, 4, ["message_conversation"]),
        (people._SHARING, 2, ["contact_alias_contact", "contact_alias_pkey"]),
    ],
    ids=["summaries", "exchanges", "aliases"],
)
async def test_a_plan_of_empty_tables_goes_by_the_index(
    database_factory: MakeDatabase, statement: str, given: int, probed: list[str]
) -> None:
    database = database_factory(migrate_projections)
    admin = await asyncpg.connect(database.admin_dsn)
    await admin.execute("VACUUM ANALYZE")
    await admin.close()
    worker = await asyncpg.connect(
        database.roles["projections_worker"],
        server_settings={"search_path": "projections", "plan_cache_mode": "force_generic_plan"},
    )
    async with worker.transaction():
        await enter(worker)
        await worker.execute(f"PREPARE looking AS {statement}")
        plan = await worker.fetch(f"EXPLAIN (COSTS OFF) EXECUTE looking ({', '.join(['NULL'] * given)})")
    await worker.close()

    lines = [row[0] for row in plan]
    for index in probed:
        at = next(place for place, line in enumerate(lines) if f"using {index}" in line)
        assert "Index Cond" in lines[at + 1], "\n".join(lines)
    assert not [line for line in lines if "Seq Scan" in line]
