"""What spares a number, in the sender as a process: slowing down, resting, warming up."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.kafka import outgoing
from contracts import topics
from contracts.ids import message_id
from contracts.instances import (
    BreakerClosed,
    BreakerOpened,
    InstanceRateRestored,
    InstanceThrottled,
    WarmUpChanged,
    WarmUpPlan,
)
from contracts.messages import (
    MessageReturned,
    MessageSent,
)
from contracts.statuses import StatusReceived
from sender_parts import ACCOUNT, most_in_window, rows
from sender_stage import add_number
from simulated_providers import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.stack]


async def test_a_throttled_number_slows_down_and_its_next_owner_knows(make_stage: Callable[..., Any]) -> None:
    """The provider takes 20 a second of a number that is set to 80: the limiter finds that and keeps it."""
    async with make_stage(REST_S="1") as stage:
        instance_id = await add_number(stage, messages_per_second=80, target_per_second=80, enforced={"mps": 20})
        first = stage.senders.start()
        await stage.queue(instance_id, 400)
        await eventually(lambda: len(stage.of(InstanceThrottled)) >= 3, deadline_s=180)
        first.kill()

        slowed = [event.messages_per_second for event in stage.of(InstanceThrottled)]
        assert slowed == sorted(slowed, reverse=True)
        assert slowed[-1] < 0.45 * 80
        (kept,) = await rows(
            stage.database.admin_dsn,
            "SELECT pace_cap, pace_full FROM instance_owner WHERE instance_id = $1",
            instance_id,
        )
        assert kept["pace_cap"] <= slowed[-1]
        assert kept["pace_full"] > 70

        stage.senders.start()
        killed_at = int(stage.simulator.lines("request_open")[-1]["mono_ns"])
        await stage.queue(instance_id, 200)

        def arrived_again() -> bool:
            return bool(stage.simulator.lines("request_open")[-1]["mono_ns"] > killed_at + 5_000_000_000)

        await eventually(arrived_again, deadline_s=180)
        later = [line["mono_ns"] / 1e9 for line in stage.simulator.lines("request_open") if line["mono_ns"] > killed_at]
        assert most_in_window(later, 1.0) <= 0.5 * 80

        # Time alone brings the rate back, and that is told.
        async def restored() -> bool:
            await rows(  # this number's only: the database has the numbers of other tests as well
                stage.database.admin_dsn,
                "UPDATE instance_owner SET pace_until = now() WHERE instance_id = $1",
                instance_id,
            )
            return bool(stage.of(InstanceRateRestored))

        await eventually(restored, deadline_s=60)


async def test_a_number_that_its_provider_limits_rests_and_goes_on_by_itself(make_stage: Callable[..., Any]) -> None:
    """131048 in an answer of one number, in a status of another; a killed sender forgets neither."""
    refused = {"rejected_share": 1.0, "rejected_code": 131048}
    async with make_stage() as stage:
        answered = await add_number(stage, faults=refused, messages_per_second=20)
        reported = await add_number(stage, messages_per_second=20)
        first = stage.senders.start()
        stage.mine |= {str(answered), str(reported)}
        status = StatusReceived(
            instance_id=reported,
            provider_message_id="wamid.before",
            status="failed",
            at=datetime.now(UTC),
            failure="spam_limit",
        )
        await stage.queue(answered, 40)

        async def both_rest() -> bool:
            key = str(message_id(reported, "wamid.before"))
            await stage.producer.publish([
                outgoing(
                    topics.STATUS_RECEIVED, key, status, source="tests", account_id=ACCOUNT, time=datetime.now(UTC)
                )
            ])  # fmt: skip
            resting = {one.envelope.subject for one in stage.told if isinstance(one.event, BreakerOpened)}
            return {str(answered), str(reported)} <= resting  # Kafka has the numbers of other tests as well

        await eventually(both_rest, deadline_s=180)
        opened = stage.of(BreakerOpened)
        assert {event.reason for event in opened} == {"spam_limit"}
        assert all(event.until is not None and event.until > event.at for event in opened)

        first.kill()
        stage.senders.start()
        before = len(stage.simulator.lines("request_open"))
        waiting = {str(key) for key in await stage.queue(reported, 10)}
        await eventually(lambda: waiting <= stage.dispatches(MessageReturned), deadline_s=180)
        assert {event.reason for event in stage.of(MessageReturned)} == {"instance_stopped"}
        assert all(event.not_before is not None for event in stage.of(MessageReturned))
        assert len(stage.simulator.lines("request_open")) == before

        both = [answered, reported]  # the hour is over
        await rows(stage.database.admin_dsn, "UPDATE instance SET rest_until = now() WHERE instance_id = ANY($1)", both)
        await eventually(lambda: len(stage.of(BreakerClosed)) >= 2, deadline_s=180)
        later = {str(key) for key in await stage.queue(reported, 10)}
        await eventually(lambda: later <= stage.dispatches(MessageSent), deadline_s=180)


async def test_a_new_number_is_warmed_up_by_what_its_webhooks_report(make_stage: Callable[..., Any]) -> None:
    async with make_stage(WARM_UP_DAY_S="8", WARM_UP_ANSWERED_SHARE="0") as stage:
        plan = WarmUpPlan(first_day=20, growth=1.5, full_per_day=1000)
        stage.senders.start()
        instance_id = await add_number(stage, messages_per_second=20, target_per_second=20, warm_up=plan)
        stage.mine.add(str(instance_id))
        await eventually(lambda: bool(stage.of(WarmUpChanged)), deadline_s=180)
        first = stage.of(WarmUpChanged)[0]
        assert (first.day, first.allowance, first.slowed_by) == (1, 20, None)

        waiting: set[str] = set()

        async def has_grown() -> bool:
            """Half a day's messages in each, for as many days as it takes."""
            nonlocal waiting
            await stage.report(instance_id)
            await stage.release_again()
            if waiting <= stage.dispatches(MessageSent):
                waiting = {str(key) for key in await stage.queue(instance_id, 12)}
            return max(event.allowance or 0 for event in stage.of(WarmUpChanged)) == 30

        await eventually(has_grown, deadline_s=120)

        now = datetime.now(UTC)
        banned = StatusReceived(
            instance_id=instance_id, provider_message_id="wamid.x", status="failed", at=now, failure="shadow_ban"
        )
        key = str(message_id(instance_id, "wamid.x"))
        await stage.producer.publish([
            outgoing(topics.STATUS_RECEIVED, key, banned, source="tests", account_id=ACCOUNT, time=now)
        ])  # fmt: skip
        await eventually(lambda: "shadow_ban" in {event.slowed_by for event in stage.of(WarmUpChanged)}, deadline_s=120)
        assert {event.reason for event in stage.of(BreakerOpened)} == {"shadow_ban"}
