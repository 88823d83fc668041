"""A sender killed at each named point of its protocol, and started again: nothing is sent twice, nothing is lost."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from contracts.messages import MessageAmbiguous, MessageFailed, MessageResolved, MessageSent
from sender_parts import rows
from sender_stage import Stage, add_number
from simulated_providers import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.stack]

KILLED = 137
MESSAGES = 60
MORE = 20
UNCERTAIN_MAX = 10  # of one number, for one crash
# Short waits, so that what stays uncertain ends within the test.
WAITS = {"RECONCILE_WAIT_S": "4", "TEXT_TIMEOUT_S": "2", "INTENT_AGE_MAX_S": "1"}
POINTS = (
    "before_intent_commit:3",
    "after_intent:3",
    "after_departure:20",
    "after_answer:20",
    "after_outcome:3",
    "before_offset_commit:1",
)
SLOW = {"faults": {"latency_ms": 40}}


@pytest.mark.parametrize("point", POINTS)
async def test_after_a_crash_every_dispatch_has_its_outcome_and_was_sent_at_most_once(
    make_stage: Callable[..., Any], point: str
) -> None:
    async with make_stage(SLOW, **WAITS) as stage:
        instance_id = await add_number(stage, messages_per_second=40, target_per_second=40)
        first = stage.senders.start(CRASH_AT=point)
        dispatches = {str(key) for key in await stage.queue(instance_id, MESSAGES)}

        async def crashed() -> bool:
            """A busy machine takes many messages in few steps, or makes them too late to leave: then there is more."""
            nonlocal dispatches
            if first.popen.poll() is not None:
                return True
            await stage.report(instance_id)
            await stage.release_again()
            if dispatches == stage.dispatches(MessageSent, MessageResolved):
                dispatches |= {str(key) for key in await stage.queue(instance_id, MORE)}
            return False

        await eventually(crashed, deadline_s=240)
        assert first.popen.returncode == KILLED
        stage.senders.start()

        async def all_ended() -> bool:
            """What left has its proof, though on a busy machine it may come after the sender gave up waiting for it;
            only what had not left stays without."""
            await stage.report(instance_id)
            await stage.release_again()
            told = stage.dispatches(MessageSent, MessageResolved)
            return bool(dispatches == told and _unresolved(stage) == dispatches - _sends(stage).keys())

        await eventually(all_ended, deadline_s=240)

        sends, unresolved = _sends(stage), _unresolved(stage)
        assert set(sends.values()) == {1}, "the provider accepted each at most once"
        assert unresolved <= stage.dispatches(MessageAmbiguous)
        assert len(unresolved) <= UNCERTAIN_MAX
        assert stage.of(MessageFailed) == []
        assert _facts_told_with_several_ids(stage) == []
        found = await rows(
            stage.database.admin_dsn,
            "SELECT state, count(*)::int AS n FROM attempt WHERE instance_id = $1 GROUP BY 1",
            instance_id,
        )
        expected = Counter({"accepted": len(sends), "unresolved": len(unresolved)}) - Counter()
        assert {row["state"]: row["n"] for row in found} == expected


async def test_a_crash_point_is_not_there_outside_test_mode(make_stage: Callable[..., Any]) -> None:
    async with make_stage(TEST_MODE="false") as stage:
        instance_id = await add_number(stage, messages_per_second=80, target_per_second=80)
        sender = stage.senders.start(CRASH_AT="after_intent:1")
        dispatches = {str(key) for key in await stage.queue(instance_id, 20)}

        async def all_sent() -> bool:
            await stage.release_again()
            return bool(dispatches == stage.dispatches(MessageSent))

        await eventually(all_sent, deadline_s=180)
        assert sender.popen.poll() is None


def _sends(stage: Stage) -> Counter[str]:
    """Requests that the provider may have accepted, by dispatch, from its own log. It refuses none here."""
    return Counter(line["label"].rpartition(":")[0] for line in stage.simulator.lines("request_open"))


def _unresolved(stage: Stage) -> set[str]:
    """Dispatches of which the last word is that nobody knows."""
    last = {
        one.envelope.subject: one.event for one in stage.told if isinstance(one.event, MessageSent | MessageResolved)
    }
    open_ones = {
        key for key, event in last.items() if isinstance(event, MessageResolved) and event.outcome != "accepted"
    }
    return open_ones & stage.mine


def _facts_told_with_several_ids(stage: Stage) -> list[str]:
    """Dispatches whose one acceptance was told as several facts."""
    ids: dict[str, set[object]] = {}
    for one in stage.told:
        if isinstance(one.event, MessageSent) and one.envelope.subject in stage.mine:
            ids.setdefault(one.envelope.subject, set()).add(one.envelope.id)
    return [key for key, found in ids.items() if len(found) > 1]
