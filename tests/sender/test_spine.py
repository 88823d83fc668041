"""The sender as a process, on real Kafka and PostgreSQL, against the provider simulator."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from chassis.kafka import outgoing
from contracts import topics
from contracts.campaigns import CampaignPausing
from contracts.instances import (
    BreakerClosed,
    BreakerOpened,
    InstanceThrottled,
)
from contracts.messages import (
    MessageAmbiguous,
    MessageFailed,
    MessageResolved,
    MessageReturned,
    MessageSent,
)
from contracts.progress import GateClosed
from sender_parts import ACCOUNT, configured, most_in_window, rows
from sender_stage import add_number
from simulated_providers import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.stack]


async def test_every_queued_message_is_sent_once_and_within_the_limit(make_stage: Callable[..., Any]) -> None:
    async with make_stage() as stage:
        instance_id = await add_number(stage, messages_per_second=80, target_per_second=80)
        stage.senders.start()
        dispatches = await stage.queue(instance_id, 200)

        async def all_sent() -> bool:
            await stage.release_again()
            return len(stage.dispatches(MessageSent)) == 200

        await eventually(all_sent, deadline_s=180)

        opened = stage.simulator.lines("request_open")
        assert Counter(line["label"].rpartition(":")[0] for line in opened) == dict.fromkeys(map(str, dispatches), 1)
        arrivals = [line["mono_ns"] / 1e9 for line in opened]
        assert most_in_window(arrivals, 1.0) <= 80
        assert {event.provider_message_id for event in stage.of(MessageSent)} == {line["message_id"] for line in opened}
        assert stage.of(MessageFailed, MessageAmbiguous) == []


async def test_a_killed_sender_sends_nothing_twice_and_statuses_settle_what_was_under_way(
    make_stage: Callable[..., Any],
) -> None:
    config = {"faults": {"latency_ms": 150}}
    async with make_stage(config, RECONCILE_WAIT_S="6", TEXT_TIMEOUT_S="2", INTENT_AGE_MAX_S="1") as stage:
        instance_id = await add_number(stage, messages_per_second=80, target_per_second=80)
        first = stage.senders.start()
        dispatches = await stage.queue(instance_id, 200)
        await eventually(lambda: len(stage.simulator.lines("request_open")) >= 80, deadline_s=180)
        first.kill()
        stage.senders.start()

        def settled() -> bool:
            return len(stage.dispatches(MessageSent) | stage.dispatches(MessageResolved)) == 200

        async def reported() -> bool:
            await stage.report(instance_id)
            await stage.release_again()
            return settled()

        await eventually(reported, deadline_s=180)

        opened = stage.simulator.lines("request_open")
        left = Counter(line["label"].rpartition(":")[0] for line in opened)
        assert set(left.values()) == {1}
        assert most_in_window([line["mono_ns"] / 1e9 for line in opened], 1.0) <= 80
        ambiguous = stage.dispatches(MessageAmbiguous)
        unresolved = {
            one.envelope.subject for one in stage.told
            if isinstance(one.event, MessageResolved) and one.event.outcome == "unresolved"
        }  # fmt: skip
        # Committed to, but killed before their departure: nothing proves anything, so a person may decide.
        assert unresolved == set(map(str, dispatches)) - set(left)
        assert ambiguous >= unresolved
        found = await rows(
            stage.database.admin_dsn,
            "SELECT state, count(*)::int AS n FROM attempt WHERE instance_id = $1 GROUP BY 1",
            instance_id,
        )
        states = {row["state"]: row["n"] for row in found}
        assert states == Counter({"accepted": 200 - len(unresolved), "unresolved": len(unresolved)}) - Counter()


async def test_after_gate_closed_nothing_of_the_campaign_leaves(make_stage: Callable[..., Any]) -> None:
    async with make_stage({"faults": {"latency_ms": 50}}) as stage:
        instance_id = await add_number(stage, messages_per_second=40, target_per_second=40)
        stage.senders.start()
        campaign = uuid4()
        await stage.queue(instance_id, 200, campaign_id=campaign)
        await eventually(lambda: len(stage.simulator.lines("request_open")) >= 20, deadline_s=180)
        asked = outgoing(
            topics.CAMPAIGNS, str(campaign), CampaignPausing(run_epoch=1), source="campaign-api",
            account_id=ACCOUNT, time=datetime.now(UTC), stream_version=5,
        )  # fmt: skip
        await stage.producer.publish([asked])
        await eventually(lambda: stage.of(GateClosed), deadline_s=60)
        sent_at_close = len(stage.simulator.lines("request_open"))

        await eventually(
            lambda: len(stage.dispatches(MessageSent) | stage.dispatches(MessageReturned)) == 200, deadline_s=60
        )

        assert len(stage.simulator.lines("request_open")) == sent_at_close
        assert {event.reason for event in stage.of(MessageReturned)} <= {"paused", "expired"}
        assert set(stage.of(GateClosed)) == {GateClosed(run_epoch=1)}, "told at once and by the relay"


async def test_refused_credentials_stop_the_instance_and_keep_its_messages(make_stage: Callable[..., Any]) -> None:
    async with make_stage() as stage:
        instance_id = await add_number(stage, token="another")
        stage.senders.start()
        await stage.queue(instance_id, 60)

        def told() -> bool:
            return bool(stage.of(BreakerOpened)) and len(stage.dispatches(MessageFailed, MessageReturned)) == 60

        await eventually(told, deadline_s=180)

        assert {(event.reason, event.until) for event in stage.of(BreakerOpened)} == {("credentials", None)}
        failed = stage.of(MessageFailed)
        assert {(event.reason, event.retryable, event.counts) for event in failed} == {("credentials", True, False)}
        assert len(failed) < 60, "what had not left was kept"
        assert "instance_stopped" in {event.reason for event in stage.of(MessageReturned)}

        # A person entered other credentials: whoever waits for the instance must hear that it may go on.
        await stage.producer.publish([configured(instance_id, stage.simulator.url, "entered anew")])
        await eventually(lambda: bool(stage.of(BreakerClosed)), deadline_s=180)


async def test_a_throttled_number_rests_and_its_retries_do_not_count(make_stage: Callable[..., Any]) -> None:
    async with make_stage({"faults": {"throttled_share": 1.0}}) as stage:
        instance_id = await add_number(stage, messages_per_second=20, target_per_second=20)
        healthy = await add_number(stage, messages_per_second=20, target_per_second=20, faults={"throttled_share": 0.0})
        stage.senders.start()
        throttled = {str(key) for key in await stage.queue(instance_id, 40)}
        fine = {str(key) for key in await stage.queue(healthy, 40)}

        async def told() -> bool:
            await stage.release_again()
            answered = stage.dispatches(MessageFailed, MessageReturned)
            return fine <= stage.dispatches(MessageSent) and throttled <= answered and bool(stage.of(InstanceThrottled))

        await eventually(told, deadline_s=180)

        failed = stage.of(MessageFailed)
        assert {(event.reason, event.counts) for event in failed} == {("number_rate", False)}
        assert all(event.not_before is not None for event in failed)
        assert len(failed) < 40, "the lane rests instead of hammering"
        assert {event.reason for event in stage.of(MessageReturned)} <= {"throttled", "expired"}
