"""I5 of numbers in warm-up: no day has more messages than its allowance, and the allowances follow the plan.

Judged by what left, by what the scheduler was told and when, and by what the providers said.
"""

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from contracts import topics
from contracts.instances import WarmUpChanged, WarmUpPlan
from contracts.messages import MessageReturned
from sender.instance.rules import Reports
from simulation.clock import START
from simulation.ledger_rows import ATTEMPT
from simulation.sender_warming import REPORT, SLOTS_A_DAY
from simulation.witness import Post
from simulation.world import Violation, World

HEARD_WITHIN_S = 90.0  # a webhook's way into the sender's counts, under faults


def check_warm_ups(world: World) -> Iterator[Violation]:
    for instance_id, plan in world.town.warm_ups.plans.items():
        told = [
            record for record in world.kafka.records(topics.INSTANCE_HEALTH)
            if UUID(record.key) == instance_id and isinstance(record.event, WarmUpChanged)
        ]  # fmt: skip
        days: list[Any] = [record.event for record in {one.envelope.id: one for one in told}.values()]
        yield from _check_days(world, instance_id)
        yield from _check_plan(world, instance_id, plan, days)
        yield from _check_signs(world, instance_id, days)


def _check_days(world: World, instance_id: UUID) -> Iterator[Violation]:
    """A message is of the day in which it was released; none of an unknown day. Where one copy of a release came back
    and another one left, because it was in Kafka twice, the day cannot know."""
    queued = {
        (record.event.dispatch_id, record.event.attempt, record.event.release): record.envelope.time  # type: ignore[attr-defined]
        for record in world.kafka.records(topics.MESSAGE_QUEUED)
    }
    days = [(at_s, begins_at, most) for at_s, of, begins_at, most in world.witness.warm_days if of == instance_id]
    left: dict[Any, int] = {}
    came_back = {
        (UUID(record.key), record.event.attempt, record.event.release)
        for record in world.kafka.records(topics.MESSAGE_SENT) if isinstance(record.event, MessageReturned)
    }  # fmt: skip
    posts = [
        post for post in world.witness.posts if post.instance_id == instance_id and _release(post) not in came_back
    ]  # fmt: skip
    for post in sorted(posts, key=lambda one: queued[_release(one)]):
        released_s = (queued[_release(post)] - START).total_seconds()
        known = [(begins_at, most) for at_s, begins_at, most in days if at_s <= released_s + 1e-6]
        if not known:
            yield "I5", f"a message of {instance_id} before the first day of its warm-up"
            return
        begins_at, most = known[-1]
        left[begins_at] = left.get(begins_at, 0) + 1
        if most is not None and left[begins_at] > most:
            yield "I5", f"{left[begins_at]} messages in a day of {most} of a number in warm-up"
            return


def _check_plan(world: World, instance_id: UUID, plan: WarmUpPlan, days: list[Any]) -> Iterator[Violation]:
    """The first day is the plan's; a day grows by no more than its factor, and only if half the day before was used."""
    if days and days[0].allowance != min(plan.first_day, plan.full_per_day):
        yield "I5", f"a warm-up begins with {days[0].allowance}"
    policy = world.town.warm_ups.policy
    for one, other in pairwise(days):
        if one.allowance is None:
            yield "I5", "a number that was warm is in warm-up again"
        elif other.allowance is None and one.allowance < plan.full_per_day:
            yield "I5", f"warm after a day of {one.allowance}"
        elif other.allowance is None or other.allowance > one.allowance:
            if other.allowance is not None and other.allowance > max(
                one.allowance + 1, min(plan.full_per_day, one.allowance * plan.growth)
            ):
                yield "I5", f"a day of {one.allowance} grew to {other.allowance}"
            reported = _reported(world, instance_id, one, other)
            if reported < policy.used_share * one.allowance:
                yield "I5", f"a day of {one.allowance} grew after {reported} reports"
            if one.begins_at == other.begins_at:
                yield "I5", "a day grew while it lasted"


def check_reports(world: World) -> Iterator[Violation]:
    """What is counted of a number is what was told of it, each message once, whatever was told twice. A message counts
    from when it is known whose it is: for some that is never."""
    told: dict[str, set[str]] = {"sent": set(), "delivered": set(), "failed": set()}
    records: list[Any] = world.kafka.records(topics.STATUS_RECEIVED)
    for record in records:
        status, identity = record.event.status, record.event.provider_message_id
        facts = {"sent": ("sent",), "failed": ("failed",)}.get(status, ("sent", "delivered"))
        for fact in facts:
            told[fact].add(identity)
    counted: dict[UUID, Reports] = {}
    for (instance_id, _), reports in world.database.tables[REPORT].items():
        known = counted.get(instance_id, Reports())
        counted[instance_id] = Reports(*(one + other for one, other in zip(known, reports, strict=True)))
    for instance_id in world.town.instances:
        if not world.town.warm_ups.plans:
            return
        reports = counted.get(instance_id, Reports())
        of_number = {one.provider_message_id for one in world.witness.posts if one.instance_id == instance_id}
        accepted = {
            row.provider_message_id for row in world.database.tables[ATTEMPT].values()
            if row.instance_id == instance_id and row.state == "accepted"
        }  # fmt: skip
        for fact, count in (("sent", reports.sent), ("delivered", reports.delivered), ("failed", reports.errors)):
            least = 0 if fact == "failed" else len(told[fact] & accepted)
            most = len(told[fact] & of_number)
            if not least <= count <= most:
                yield "I5", f"{count} counted as {fact} of {instance_id}, {least} to {most} were told"


def _reported(world: World, instance_id: UUID, one: Any, other: Any) -> int:
    """Messages that may be of this day, of which was told that they went."""
    since = one.begins_at - timedelta(seconds=world.town.warm_ups.policy.day_s / SLOTS_A_DAY + HEARD_WITHIN_S)
    records: list[Any] = world.kafka.records(topics.STATUS_RECEIVED)
    return len(
        {
            record.event.provider_message_id
            for record in records
            if record.event.instance_id == instance_id
            and record.event.status != "failed"
            and since <= record.envelope.time <= other.at
        }
    )


def _check_signs(world: World, instance_id: UUID, days: list[Any]) -> Iterator[Violation]:
    """A poor quality halves the day that it is heard in, once; what was slowed does not grow with the next day."""
    for before, one, other in zip([None, *days], days, days[1:], strict=False):
        if before is not None and one.begins_at == before.begins_at and one.allowance is not None:
            grown = other.allowance is None or other.allowance > one.allowance
            if grown and other.begins_at != one.begins_at:
                yield "I5", f"a day that was cut to {one.allowance} grew to {other.allowance}"
    cuts = [(one, other) for one, other in pairwise(days) if one.begins_at == other.begins_at]
    for one, cut in cuts:
        if one.allowance is not None and cut.allowance is not None and cut.allowance > max(1, one.allowance // 2):
            plan = world.town.warm_ups.plans[instance_id]
            if cut.allowance > min(plan.first_day, one.allowance):
                yield "I5", f"a bad sign left {cut.allowance} of {one.allowance}"
    for at_s, of in world.witness.poor_s:
        if of != instance_id:
            continue
        begun = [day for day in days if (day.at - START).total_seconds() <= at_s]
        if any(day.allowance is None for day in days) or not begun:
            continue
        heeded = any(cut.begins_at >= begun[-1].begins_at for _, cut in cuts)
        if not heeded:
            yield "I5", "a poor quality slowed no day of a warm-up"


def _release(post: Post) -> tuple[UUID, int, int]:
    return post.dispatch_id, post.attempt, post.release
