"""What every sender looks after, whoever's lanes they are: intents whose owner is gone, gates, silence, old rows."""

import asyncio
from datetime import timedelta
from uuid import UUID

from aiokafka.errors import KafkaError

from chassis.database import Database, driver
from chassis.kafka import Outgoing, Producer, outgoing
from chassis.lifecycle import utc_now
from chassis.outbox import append
from chassis.telemetry import log
from contracts import ids
from contracts.progress import GateClosed
from contracts.topics import CAMPAIGN_PROGRESS, SENDER
from sender.instance.counts import Counts
from sender.ledger.attempt import Finding, NoAnswer, NoEvidence
from sender.rounds import repeat
from sender.settings import Settings
from sender.settlement.consequences import carry_out
from sender.settlement.evidence import fit_kept
from sender.settlement.reconcile import is_unresolved
from sender.settlement.settling import Key, settle

BATCH = 500
TELL_WITHIN_S = 1.0

# Index attempt_open. An owner whose lease lapsed, or whom a higher epoch has replaced, answers no more in time.
_ORPHANS = """
SELECT a.account_id, a.dispatch_id, a.attempt
FROM attempt a LEFT JOIN instance_owner o ON o.instance_id = a.instance_id
WHERE a.state = 'intent' AND a.times_out_at < clock_timestamp()
  AND (o.instance_id IS NULL OR a.epoch < o.epoch OR o.lease_until < clock_timestamp())
ORDER BY a.intent_at LIMIT $1
"""
# Locks the closing gates, so that one sweep at a time completes each; a row without key says that some are left. One
# statement: while a loop is busy, each costs a person who pauses a tenth of a second.
_CLOSE = """
WITH ready AS (
  SELECT g.key FROM gate g
  WHERE g.closing AND g.scope = 'campaign'
    AND NOT EXISTS (SELECT FROM attempt a WHERE a.campaign_id = g.key::uuid AND a.state = 'intent'
                    AND a.run_epoch <= g.closed_through)
  ORDER BY g.key LIMIT $1 FOR UPDATE OF g SKIP LOCKED
), closed AS (
  UPDATE gate g SET closing = false FROM ready r WHERE g.scope = 'campaign' AND g.key = r.key
  RETURNING g.key, g.account_id, g.closed_through, g.asked_by
)
SELECT key, account_id, closed_through, asked_by FROM closed
UNION ALL
SELECT NULL, NULL, NULL, NULL
WHERE EXISTS (SELECT FROM gate g WHERE g.closing AND NOT (g.scope = 'campaign' AND g.key IN (SELECT key FROM ready)))
"""
_AMBIGUOUS = """
SELECT a.account_id, a.dispatch_id, a.attempt, a.intent_at, w.at AS watermark, clock_timestamp() AS now
FROM attempt a LEFT JOIN ingest_watermark w ON w.instance_id = a.instance_id
WHERE a.state = 'ambiguous' AND a.intent_at < clock_timestamp() - make_interval(secs => $1)
ORDER BY a.intent_at LIMIT $2
"""
_CLEAN = (
    """DELETE FROM attempt WHERE (account_id, dispatch_id, attempt) IN (
         SELECT account_id, dispatch_id, attempt FROM attempt
         WHERE state NOT IN ('intent', 'ambiguous') AND intent_at < now() - make_interval(secs => $1) LIMIT 5000)""",
    """DELETE FROM evidence WHERE (account_id, instance_id, provider_message_id, fact) IN (
         SELECT account_id, instance_id, provider_message_id, fact FROM evidence
         WHERE received_at < now() - make_interval(secs => $1) LIMIT 5000)""",
    """DELETE FROM service_window WHERE (account_id, instance_id, recipient_key) IN (
         SELECT account_id, instance_id, recipient_key FROM service_window
         WHERE open_until < now() - make_interval(secs => $1) LIMIT 5000)""",
)


class Sweeps:
    """`closing`: set by whoever closes a gate in this process, so that it is completed at once."""

    def __init__(self, database: Database, settings: Settings, producer: Producer | None = None) -> None:
        self._database = database
        self._settings = settings
        self._producer = producer
        self.closing = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        settings = self._settings
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gates(stopping))
            tasks.create_task(repeat(self.sweep_orphans, settings.sweep_s, stopping, interrupted="sweep_failed"))
            tasks.create_task(
                repeat(self.sweep_silent, min(5.0, settings.reconcile_wait_s / 4), stopping, interrupted="sweep_failed")
            )
            tasks.create_task(repeat(self.sweep_evidence, 1.0, stopping, interrupted="sweep_failed"))
            tasks.create_task(repeat(self._clean, 60.0, stopping, interrupted="sweep_failed"))

    async def _gates(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            self.closing.clear()  # before the look: who closes a gate during it is looked at again at once
            try:
                still_closing = await self.sweep_gates()
            except Exception as error:  # noqa: BLE001  the edge of the loop; the next round tries again
                log.warning("gate_sweep_failed", error=f"{type(error).__name__}: {error}")
                still_closing = True
            pause_s = self._settings.gate_sweep_s if still_closing else self._settings.gate_idle_s
            try:
                async with asyncio.timeout(pause_s):
                    await self.closing.wait()
            except TimeoutError:
                pass

    async def sweep_orphans(self) -> int:
        """Intents that nobody will answer for any more become ambiguous."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            rows = await raw.fetch(_ORPHANS, BATCH)
            if not rows:
                return 0
            findings: list[tuple[Key, Finding]] = [(_key(row), NoAnswer("sender_gone")) for row in rows]
            told, _ = await settle(connection, findings, utc_now())
        log.info("orphaned_intents_ambiguous", count=len(told))
        return len(told)

    async def sweep_gates(self) -> bool:
        """Closing gates without an intent under way are closed and told; True if some are still closing."""
        told: list[Outgoing] = []
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            rows = await raw.fetch(_CLOSE, BATCH)
            if closed := [row for row in rows if row["key"] is not None]:
                now = utc_now()
                told = [
                    outgoing(
                        CAMPAIGN_PROGRESS,
                        row["key"],
                        GateClosed(run_epoch=row["closed_through"]),
                        source=SENDER,
                        account_id=row["account_id"],
                        time=now,
                        # Each asking gets an answer of its own, however often the gate was closed before.
                        event_id=ids.event_id(SENDER, row["key"], f"gate:{row['closed_through']}:{row['asked_by']}"),
                    )
                    for row in closed
                ]
                await append(connection, told)
        await self._tell_at_once(told)
        return len(closed) < len(rows)

    async def _tell_at_once(self, told: list[Outgoing]) -> None:
        """The relay tells it once more, some round trips later: it is what counts, but a person waits for this."""
        if not told or self._producer is None:
            return
        try:
            async with asyncio.timeout(TELL_WITHIN_S):
                await self._producer.publish(told)
        except (KafkaError, TimeoutError) as error:
            log.info("gates_left_to_the_relay", count=len(told), error=type(error).__name__)

    async def sweep_evidence(self) -> None:
        """Evidence that fitted nothing when it came may fit by now."""
        async with self._database.transaction() as connection:
            counts, now = Counts(), utc_now()
            consequences = await fit_kept(connection, now, counts)
            await counts.write(await driver(connection), now)
        await carry_out(self._database, consequences)

    async def sweep_silent(self) -> int:
        """Ambiguous attempts whose time for evidence is over become unresolved."""
        wait = timedelta(seconds=self._settings.reconcile_wait_s)
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            rows = await raw.fetch(_AMBIGUOUS, wait.total_seconds(), BATCH)
            findings: list[tuple[Key, Finding]] = [
                (_key(row), NoEvidence())
                for row in rows
                if is_unresolved(row["intent_at"], row["watermark"], row["now"], wait)
            ]
            if not findings:
                return 0
            told, _ = await settle(connection, findings, utc_now())
        log.info("attempts_unresolved", count=len(told))
        return len(told)

    async def _clean(self) -> None:
        settings = self._settings
        for statement, keep_s in zip(
            _CLEAN, (settings.ledger_keep_s, settings.evidence_keep_s, settings.evidence_keep_s), strict=True
        ):
            async with self._database.transaction() as connection:
                await (await driver(connection)).execute(statement, keep_s)


def _key(row: object) -> tuple[UUID, UUID, int]:
    return row["account_id"], row["dispatch_id"], row["attempt"]  # type: ignore[index]
