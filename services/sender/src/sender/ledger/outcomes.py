"""Outcomes of requests: many lanes' in one update, then published, then their offsets are finished.

The ledger's row is its own outbox: whoever crashes between update and publication reads the record again and tells
the settled outcome again.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from chassis.database import Database, driver, is_passing
from chassis.kafka import Outgoing, Producer
from chassis.lifecycle import utc_now
from chassis.telemetry import counter, log
from contracts.messages import MessageQueued
from sender.ledger.answers import About, tell
from sender.ledger.attempt import Finding, NeverLeft, NoAnswer, State, WasAccepted, WasRejected
from sender.settlement.consequences import Consequence, carry_out, follow_up
from sender.settlement.settling import columns, settle
from sender.work import Work

# Only attempts still at intent of our own epoch; what is not returned is settled the long way. One without recipient
# is of a person who asked to be forgotten meanwhile (see erasure).
_RECORD = """
UPDATE attempt a
SET state = k.state, provider_message_id = CASE WHEN a.recipient_key <> '' THEN
      coalesce(k.provider_message_id, a.provider_message_id) END,
    address = CASE WHEN a.recipient_key <> '' THEN k.address END, reason = k.reason,
    returned = k.returned, counts = k.counts, code = k.code,
    detail = CASE WHEN a.recipient_key <> '' THEN k.detail ELSE '' END,
    not_before = k.not_before,
    evidence = k.evidence, delivered = k.delivered, outcome_at = $16
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::bigint[], $5::text[], $6::text[], $7::bytea[], $8::text[],
            $9::bool[], $10::bool[], $11::text[], $12::text[], $13::timestamptz[], $14::text[], $15::bool[])
  AS k(account_id, dispatch_id, attempt, epoch, state, provider_message_id, address, reason, returned, counts, code,
       detail, not_before, evidence, delivered)
WHERE a.account_id = k.account_id AND a.dispatch_id = k.dispatch_id AND a.attempt = k.attempt
  AND a.state = 'intent' AND a.epoch = k.epoch
RETURNING a.dispatch_id, a.attempt, a.quota_scope, a.intent_at
"""
COUNTED = {
    "MessageSent": counter("pombo_messages_sent_total", "Messages that a provider accepted."),
    "MessageFailed": counter("pombo_messages_failed_total", "Attempts that were refused."),
    "MessageAmbiguous": counter("pombo_messages_ambiguous_total", "Attempts without a proof."),
    "MessageResolved": counter("pombo_messages_resolved_total", "Uncertain attempts that were settled."),
    "MessageReturned": counter("pombo_messages_returned_total", "Messages given back to wait."),
}
GATHER_MAX_S = 0.5
RETRY_S = 0.25
PUBLISHING_MAX = 8


class Outcome(NamedTuple):
    """What became of one intent."""

    work: Work
    epoch: int
    finding: Finding


class Answered(NamedTuple):
    """An answer that needs no ledger: a refusal, or an outcome told again."""

    work: Work
    record: Outgoing


class OutcomeWriter:
    """Collects outcomes and answers; `finish` is called for each record once nothing about it can be lost."""

    def __init__(
        self,
        database: Database,
        producer: Producer,
        *,
        finish: Callable[[Work], None],
        linger_s: float,
        every_s: float,
        batch_max: int,
        crash_point: Callable[[str], None],
    ) -> None:
        self._database = database
        self._producer = producer
        self._finish = finish
        self._linger_s = linger_s
        self._every_s = every_s
        self._batch_max = batch_max
        self._crash_point = crash_point
        self._outcomes: list[Outcome] = []
        self._answers: list[Answered] = []
        self._wake = asyncio.Event()
        self._published = asyncio.Event()
        self._busy = 0

    def put(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._wake.set()

    def answer(self, work: Work, record: Outgoing) -> None:
        self._answers.append(Answered(work, record))
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether everything that was put here is written, published and finished."""
        return not (self._outcomes or self._answers or self._busy)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set and nothing is left."""
        clock = asyncio.get_running_loop().time
        next_s = 0.0
        async with asyncio.TaskGroup() as publications:
            while not (stopping.is_set() and self.idle):
                await self._wait()
                if len(self._outcomes) < self._batch_max:
                    await asyncio.sleep(max(self._linger_s, next_s - clock()))
                next_s = clock() + self._every_s
                outcomes, self._outcomes = self._outcomes[: self._batch_max], self._outcomes[self._batch_max :]
                answers, self._answers = self._answers, []
                if not (outcomes or answers):
                    continue
                self._busy += 1
                told = await self._write(outcomes)
                if outcomes:
                    self._crash_point("after_outcome")
                await self._gather_meanwhile()
                publications.create_task(
                    self._publish(
                        told + [answer.record for answer in answers],
                        [outcome.work for outcome in outcomes] + [answer.work for answer in answers],
                    )
                )

    async def _gather_meanwhile(self) -> None:
        """While many publications are under way the next batch grows. Not for long, as Kafka may be away: an outcome
        that is not in the ledger is soon called ambiguous there. How many wait is bounded by what lanes were given."""
        self._published.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_MAX_S):
                while self._busy > PUBLISHING_MAX:
                    await self._published.wait()
                    self._published.clear()

    async def _wait(self) -> None:
        if self._outcomes or self._answers:
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(0.2):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _write(self, outcomes: Sequence[Outcome]) -> list[Outgoing]:
        """Waits out the database: an outcome is never given up. One that the database refuses is found by halving, so
        that it stops no other, and is written as an answer that nobody can read."""
        while outcomes:
            try:
                return await self._record(outcomes, utc_now())
            except Exception as error:  # noqa: BLE001  the edge of the loop; nothing but trying again helps
                log.warning("outcomes_not_written", count=len(outcomes), error=f"{type(error).__name__}: {error}")
                if not is_passing(error):
                    if len(outcomes) > 1:
                        half = len(outcomes) // 2
                        return await self._write(outcomes[:half]) + await self._write(outcomes[half:])
                    outcomes = [outcomes[0]._replace(finding=NoAnswer("unreadable_answer"))]
                await asyncio.sleep(RETRY_S)
        return []

    async def _record(self, outcomes: Sequence[Outcome], now: datetime) -> list[Outgoing]:
        rows = [(*_key(outcome), outcome.epoch, _settled(outcome.finding), *columns(outcome.finding))
                for outcome in outcomes]  # fmt: skip
        rows.sort(key=lambda row: row[:3])
        consequences: list[Consequence] = []
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            written = {
                (row["dispatch_id"], row["attempt"]): row
                for row in await raw.fetch(_RECORD, *map(list, zip(*rows, strict=True)), now)
            }
            late = [outcome for outcome in outcomes if _key(outcome)[1:] not in written]
            if late:
                _, consequences = await settle(connection, [(_key(outcome), outcome.finding) for outcome in late], now)
        told: list[Outgoing] = []
        for outcome in outcomes:
            row = written.get(_key(outcome)[1:])
            if row is None:
                continue
            told.append(tell(about_work(outcome.work), "intent", outcome.finding, now))
            consequences += follow_up(
                outcome.finding, outcome.work.message, outcome.work.account_id, quota_scope=row["quota_scope"],
                recipient=outcome.work.recipient, intent_at=row["intent_at"], now=now,
            )  # fmt: skip
        if consequences:
            await carry_out(self._database, consequences)
        return told

    async def _publish(self, records: list[Outgoing], works: list[Work]) -> None:
        try:
            while True:
                try:
                    await self._producer.publish(records)
                    break
                except Exception as error:  # noqa: BLE001  the edge of the loop; the records stay ours until acked
                    log.warning("answers_not_published", count=len(records), error=type(error).__name__)
                    await asyncio.sleep(RETRY_S)
            for kind, count in Counter(record.envelope.type for record in records).items():
                COUNTED[kind].inc(count)
            for work in works:
                self._finish(work)
        finally:
            self._busy -= 1
            self._published.set()


def about_work(work: Work, message: MessageQueued | None = None) -> About:
    return About(
        work.account_id,
        work.instance_id,
        message or work.message,
        work.message.release,
        work.traceparent,
        work.correlation_id,
    )


def _key(outcome: Outcome) -> Any:
    message = outcome.work.message
    return outcome.work.account_id, message.dispatch_id, message.attempt


def _settled(finding: Finding) -> State:
    match finding:
        case WasAccepted():
            return "accepted"
        case WasRejected(retryable=retryable):
            return "rejected_retryable" if retryable else "rejected_final"
        case NeverLeft():
            return "not_sent"
        case NoAnswer():
            return "ambiguous"
        case _:
            raise AssertionError(finding)
