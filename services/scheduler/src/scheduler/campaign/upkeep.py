"""What keeps the tables small and the counters honest."""

from datetime import timedelta

from chassis.database import Database, driver
from scheduler.order.erasures import forget_addresses
from scheduler.signals import Signals

# Lanes under lock, then what is really out (index dispatch_released): nothing can be released or settled in between.
_LOCK_SOME = """
SELECT instance_id FROM lane WHERE in_flight > 0 ORDER BY instance_id LIMIT 500 FOR UPDATE SKIP LOCKED
"""
_RECOUNT = """
UPDATE lane l SET in_flight = c.out, due_at = statement_timestamp()
FROM (SELECT n.instance_id, (SELECT count(*) FROM dispatch d WHERE d.state = 'released' AND d.awaiting
        AND d.campaign_id IS NOT NULL AND d.instance_id = n.instance_id) AS out
    FROM unnest($1::uuid[]) AS n(instance_id)) c
WHERE l.instance_id = c.instance_id AND l.in_flight <> c.out RETURNING l.instance_id
"""
# A page at a time by the chore 'delete'. Index campaign_ended.
_OLD_CAMPAIGNS = """
INSERT INTO chore (campaign_id, account_id, kind)
SELECT c.campaign_id, c.account_id, 'delete' FROM campaign c
WHERE c.status IN ('completed', 'cancelled') AND c.status_at < statement_timestamp() - $1::interval
    AND EXISTS (SELECT 1 FROM recipient r WHERE r.campaign_id = c.campaign_id)
ON CONFLICT DO NOTHING
"""
# Index dispatch_answered.
_OLD_ANSWERS = """
WITH old AS (
    SELECT dispatch_id, account_id FROM dispatch WHERE campaign_id IS NULL AND ended_at IS NOT NULL
        AND ended_at < statement_timestamp() - $1::interval ORDER BY ended_at LIMIT 1000
), contents AS (
    DELETE FROM answer a USING old WHERE a.dispatch_id = old.dispatch_id AND a.account_id = old.account_id
)
DELETE FROM dispatch d USING old WHERE d.dispatch_id = old.dispatch_id AND d.account_id = old.account_id
"""


class Upkeep:
    def __init__(self, database: Database, signals: Signals, kept_days: float) -> None:
        self._database = database
        self._signals = signals
        self._kept = timedelta(days=kept_days)

    async def recount_credit(self) -> int:
        """Lanes whose count of what is out was wrong; it is right by construction, this is the proof."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            some = [row["instance_id"] for row in await raw.fetch(_LOCK_SOME)]
            return len(await raw.fetch(_RECOUNT, some)) if some else 0

    async def remove_old(self) -> None:
        """Dispatches of campaigns that ended long ago, and old answers: a later report about them says nothing here."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            await raw.execute(_OLD_CAMPAIGNS, self._kept)
            await raw.execute(_OLD_ANSWERS, self._kept)
            await forget_addresses(raw)
        self._signals.plan.set()
