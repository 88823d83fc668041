"""The figures: they add up to the total after every event, and equal what counting the rows gives."""

import random
from datetime import timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from contracts import campaigns, ids, messages, progress
from contracts.envelope import Envelope
from contracts.ids import Address
from contracts.statuses import StatusReceived
from projection_histories import START, Record, draw_history
from projection_parts import apply, enter, shuffle, split

pytestmark = pytest.mark.postgres
EXCLUSIVE = ("pending_count", "sent_count", "failed_count", "skipped", "expired", "cancelled", "unresolved")
COUNTED = """
SELECT campaign_id, count(*) AS total_contacts, count(*) FILTER (WHERE state = 'pending') AS pending_count,
    count(*) FILTER (WHERE queued) AS queued, count(*) FILTER (WHERE state = 'accepted') AS sent_count,
    count(*) FILTER (WHERE state = 'accepted' AND delivery >= 3) AS delivered,
    count(*) FILTER (WHERE state = 'accepted' AND delivery >= 4) AS read, count(replied_at) AS replied,
    count(*) FILTER (WHERE state = 'failed') AS failed_count, count(*) FILTER (WHERE state = 'skipped') AS skipped,
    count(*) FILTER (WHERE state = 'expired') AS expired, count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
    count(*) FILTER (WHERE state = 'unresolved') AS unresolved
FROM recipient WHERE source_event IS NOT NULL GROUP BY campaign_id
"""
DISPATCHES = """
SELECT subject_id AS campaign_id, count(*) FILTER (WHERE state = 'pending') AS dispatches_pending,
    count(*) FILTER (WHERE state = 'released') AS dispatches_queued,
    count(*) FILTER (WHERE state = 'accepted') AS dispatches_sent,
    count(*) FILTER (WHERE state = 'accepted' AND delivery >= 3) AS dispatches_delivered,
    count(*) FILTER (WHERE state = 'accepted' AND delivery >= 4) AS dispatches_read,
    count(*) FILTER (WHERE state = 'failed') AS dispatches_failed,
    count(*) FILTER (WHERE state = 'skipped') AS dispatches_skipped
FROM (SELECT subject_id, delivery, CASE WHEN state = 'failed' AND delivery >= 3 THEN 'accepted'
    ELSE coalesce(state, 'pending') END AS state FROM dispatch WHERE recipient_id IS NOT NULL) d
WHERE subject_id IS NOT NULL GROUP BY subject_id
"""
QUEUED = """
SELECT instance_id, count(*) FILTER (WHERE state = 'pending') AS pending,
    count(*) FILTER (WHERE state = 'released') AS processing, count(*) FILTER (WHERE state = 'failed') AS dead_letters,
    count(*) FILTER (WHERE state = 'unresolved') AS unresolved
FROM (SELECT instance_id, CASE WHEN state = 'failed' AND delivery >= 3 THEN 'accepted' ELSE coalesce(state, 'pending')
    END AS state FROM dispatch WHERE NOT given_up) d
WHERE instance_id IS NOT NULL AND state IN ('pending', 'released', 'failed', 'unresolved') GROUP BY instance_id
"""
ACCOUNT, CAMPAIGN, INSTANCE = (UUID(int=n) for n in (1, 2, 3))


@pytest.mark.parametrize("seed", range(8))
async def test_they_add_up_after_every_event_in_any_order(worker: asyncpg.Connection, seed: int) -> None:
    history = shuffle(draw_history(seed), random.Random(seed))
    transaction = worker.transaction()
    await transaction.start()
    try:
        await enter(worker)
        for record in history:
            await apply(worker, [record])
            counted = {row["campaign_id"]: dict(row) for row in await worker.fetch(COUNTED)}
            for row in await worker.fetch(DISPATCHES):
                counted.setdefault(row["campaign_id"], {}).update(row)
            for row in await worker.fetch("SELECT * FROM campaign_statistics"):
                assert row["total_contacts"] == sum(row[name] for name in EXCLUSIVE)
                assert row["queued"] <= row["pending_count"]
                assert row["read"] <= row["delivered"] <= row["sent_count"]
                truth = counted.get(row["campaign_id"]) or {"total_contacts": 0}
                assert {name: row[name] for name in truth} == truth
            queued = await worker.fetch("SELECT * FROM queue_statistics")
            assert {row["instance_id"]: row[1:] for row in await worker.fetch(QUEUED)} == {
                row["instance_id"]: row[2:] for row in queued
            }
        assert await worker.fetch("SELECT FROM campaign_counter WHERE value < 0") == []
    finally:
        await transaction.rollback()


def told(subject: UUID, event: Any, after_s: float, version: int | None = None) -> Record:
    time = START + timedelta(seconds=after_s)
    event_id = ids.event_id("test", str(subject), f"{type(event).__name__}{after_s}")
    return Envelope(
        event_id, type(event).__name__, 1, "test", str(subject), time, ACCOUNT, stream_version=version
    ), event


def phone(nth: int) -> str:
    return f"5511990000{nth:03d}"


def added(count: int) -> tuple[campaigns.Recipient, ...]:
    return tuple(
        campaigns.Recipient(
            recipient_id=UUID(int=100 + n), contact_id=UUID(int=200 + n), external_id=str(n), phone=phone(n)
        )
        for n in range(count)
    )


def changed(nth: int, version: int, state: Any, reason: str | None = None, step: int = 0) -> Record:
    recipient = UUID(int=100 + nth)
    change = progress.DispatchChange(
        dispatch_id=ids.dispatch_id(recipient, step), recipient_id=recipient, step=step, instance_id=INSTANCE,
        version=version, attempt=1, release=0, state=state, reason=reason,
    )  # fmt: skip
    return told(CAMPAIGN, progress.DispatchesChanged(changes=(change,)), 100 + version + nth / 1000 + step / 10)


def sent(nth: int, step: int = 0, after_s: float = 200) -> Record:
    recipient, address = UUID(int=100 + nth), Address(phone=phone(nth))
    provider_id = f"{nth}.{step}"
    event = messages.MessageSent(
        instance_id=INSTANCE, attempt=1, release=0, campaign_id=CAMPAIGN, run_epoch=1, recipient_id=recipient,
        step=step, provider_message_id=provider_id, message_id=ids.message_id(INSTANCE, provider_id),
        contact_id=UUID(int=200 + nth), chat_id=ids.chat_id(INSTANCE, address), address=address,
        content=messages.Content(kind="text", text="oi"), sent_at=START + timedelta(seconds=after_s),
    )  # fmt: skip
    return told(ids.dispatch_id(recipient, step), event, after_s)


def reported(nth: int, status: Any, step: int = 0) -> Record:
    provider_id = f"{nth}.{step}"
    event = StatusReceived(
        instance_id=INSTANCE, provider_message_id=provider_id, status=status, at=START + timedelta(seconds=300)
    )
    return told(ids.message_id(INSTANCE, provider_id), event, 300)


def opened(steps: int, recipients: int) -> list[Record]:
    definition = campaigns.Definition(
        name="March", pool=(INSTANCE,), steps=tuple(campaigns.Step(kind="text", content="oi") for _ in range(steps))
    )
    created = campaigns.CampaignCreated(run_epoch=0, definition=definition)
    return [
        told(CAMPAIGN, created, 0, version=1),
        told(CAMPAIGN, campaigns.RecipientsAdded(chunk=0, recipients=added(recipients)), 1),
    ]


async def figures(worker: asyncpg.Connection, records: list[Record], batches: int = 1) -> dict[str, Any]:
    transaction = worker.transaction()
    await transaction.start()
    try:
        await enter(worker)
        for batch in split(records, random.Random(batches), batches):
            await apply(worker, batch)
        (row,) = await worker.fetch("SELECT * FROM campaign_statistics")
        return dict(row)
    finally:
        await transaction.rollback()


async def test_reasons_of_failed_and_skipped_are_counted_apart(worker: asyncpg.Connection) -> None:
    story = opened(steps=1, recipients=5)
    story += [
        changed(0, 1, "failed", "bad_number"),
        changed(1, 1, "failed", "bad_number"),
        changed(2, 1, "failed", "spam"),
    ]
    story += [changed(3, 1, "skipped", "opted_out"), changed(4, 1, "accepted")]

    row = await figures(worker, story)

    assert row["failed_by_reason"] == '{"spam": 1, "bad_number": 2}'
    assert row["skipped_by_reason"] == '{"opted_out": 1}'
    assert (row["total_contacts"], row["sent_count"], row["failed_count"]) == (5, 1, 3)
    assert str(row["delivery_rate"]) == "20.00"


async def test_a_recipient_is_sent_when_all_steps_were_accepted(worker: asyncpg.Connection) -> None:
    story = [*opened(steps=2, recipients=2)]
    story += [changed(n, 1, "accepted", step=0) for n in (0, 1)] + [changed(0, 1, "released", step=1)]
    story += [changed(1, 1, "accepted", step=1)]

    row = await figures(worker, story)

    assert (row["sent_count"], row["pending_count"], row["queued"]) == (1, 1, 1)
    assert (row["dispatches_sent"], row["dispatches_queued"]) == (3, 1)


@pytest.mark.parametrize("batches", [1, 2, 3])
async def test_a_step_that_is_still_planned_waits_whatever_was_told_first(
    worker: asyncpg.Connection, batches: int
) -> None:
    """What is only planned is not written to the recipient, unless something happened to another step of it."""
    told_all = [changed(0, 1, "pending"), changed(0, 2, "accepted"), changed(0, 1, "pending", "previous_step", step=1)]
    for order in permutations([*told_all, *opened(steps=2, recipients=1)]):
        row = await figures(worker, list(order), batches)

        assert (row["total_contacts"], row["pending_count"], row["sent_count"]) == (1, 1, 0)
        assert (row["dispatches_pending"], row["dispatches_sent"]) == (1, 1)


async def test_a_recipient_is_failed_when_one_step_ended_failed(worker: asyncpg.Connection) -> None:
    story = [*opened(steps=2, recipients=1), changed(0, 1, "failed", "bad_number", step=0)]
    story += [changed(0, 1, "skipped", "previous_step", step=1)]

    row = await figures(worker, story)

    assert (row["failed_count"], row["skipped"], row["dispatches_skipped"]) == (1, 0, 1)


async def test_delivered_counts_once_however_the_statuses_come(worker: asyncpg.Connection) -> None:
    story = [*opened(steps=1, recipients=1), reported(0, "read"), reported(0, "delivered"), reported(0, "delivered")]
    story += [sent(0), changed(0, 1, "accepted")]

    row = await figures(worker, story)

    assert (row["sent_count"], row["delivered"], row["read"]) == (1, 1, 1)
    assert str(row["delivered_rate"]) == "100.00"


@pytest.mark.parametrize("batches", [1, 2, 3, 4])
async def test_what_the_sender_returned_is_not_queued_any_more(worker: asyncpg.Connection, batches: int) -> None:
    """Whichever of these come together, and whichever first."""
    returned = messages.MessageReturned(
        instance_id=INSTANCE, attempt=1, release=1, campaign_id=CAMPAIGN, run_epoch=1, recipient_id=UUID(int=100),
        step=0, reason="paused",
    )  # fmt: skip
    told_back = told(ids.dispatch_id(UUID(int=100), 0), returned, 150)
    moves = [changed(0, 1, "pending"), changed(0, 2, "released"), told_back, changed(0, 3, "pending", "paused")]
    for order in permutations(moves):
        story = [*opened(steps=1, recipients=2), *order]

        row = await figures(worker, story, batches)

        assert (row["pending_count"], row["queued"]) == (2, 0)
        assert (row["dispatches_pending"], row["dispatches_queued"]) == (1, 0)


async def test_a_late_failure_does_not_undo_a_delivery(worker: asyncpg.Connection) -> None:
    story = [
        *opened(steps=1, recipients=1),
        sent(0),
        reported(0, "delivered"),
        changed(0, 2, "failed", "undeliverable"),
    ]

    row = await figures(worker, story)

    assert (row["sent_count"], row["failed_count"], row["delivered"]) == (1, 0, 1)


async def test_an_empty_campaign_has_a_rate_of_nothing(worker: asyncpg.Connection) -> None:
    row = await figures(worker, opened(steps=1, recipients=0))

    assert (row["total_contacts"], row["delivery_rate"]) == (0, 0)
