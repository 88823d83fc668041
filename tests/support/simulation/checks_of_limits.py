"""I4 to I7, I14: rates, quotas, pauses, hours, consent, and how much is out at once."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from contracts import campaigns as events
from contracts import topics
from contracts.messages import MessageReturned, MessageSent
from scheduler.lane import hours
from sender.lane import budget
from simulation.checks_of_dispatches import reported_failed
from simulation.clock import START
from simulation.scheduler_tables import DISPATCH, LANE, PACING
from simulation.town import LATE_S, SENDER
from simulation.witness import Post, Try
from simulation.world import Violation, World

DAY_S = 86_400.0
ROUNDING_S = 1e-6
SLOWED_FOR_S = 10.0
SLOWED_SHARE = 0.85  # two refusals within two seconds count as one: 0.7 and twelve hundredths at most
SLOWED_SLACK_S = 0.05
COUNTED: tuple[Try, ...] = ("first", "retry", "failed", "answered")


def check_rates(world: World) -> Iterator[Violation]:
    """No second with more than the limit; to one person no more than its own limit allows; the least delay kept."""
    for instance_id, instance in world.town.instances.items():
        posts = [post for post in world.witness.posts if post.instance_id == instance_id]
        limits = instance.config.limits
        if (most := _most_within([p.arrived_s for p in posts], 1.0)) > limits.messages_per_second:
            yield "I4", f"{most} messages within a second of {limits.messages_per_second}"
        if limits.pair_burst == 1:
            for recipient in {post.recipient: None for post in posts}:
                times = [post.arrived_s for post in posts if post.recipient == recipient]
                if _most_within(times, 60.0 / limits.pair_per_minute - SENDER.pair_jitter_s - 2.0) > 1:
                    yield "I4", f"two messages to {recipient} within the pair's interval"
        slow = [campaign.id for campaign in world.town.campaigns if campaign.definition.policy.min_delay_s]
        if len(slow) == len(world.town.campaigns) and not world.town.faults.crash:
            yield from _check_delay(world, posts)


def _check_delay(world: World, posts: list[Post]) -> Iterator[Violation]:
    """The delay counts from the outcome before; what is sent again by stuck releases is not paced anew."""
    least_s = min(campaign.definition.policy.min_delay_s for campaign in world.town.campaigns)
    told: dict[str, list[float]] = defaultdict(list)
    for record in world.kafka.records(topics.MESSAGE_SENT):
        told[record.key or ""].append((record.envelope.time - START).total_seconds())
    for one, other in pairwise(posts):
        outcome_s = min((at_s for at_s in told[str(one.dispatch_id)] if at_s > one.at_s), default=other.at_s)
        soon = outcome_s < other.at_s < outcome_s + least_s - ROUNDING_S
        if soon and not world.town.faults.stand and other.dispatch_id != one.dispatch_id:
            yield "I4", f"{other.at_s - outcome_s:.3f} s after the outcome before, not {least_s}"


def check_pace(world: World) -> Iterator[Violation]:
    """After a refusal for rate the same lane goes at most at 0.7 of its rate, and a hundredth more each second."""
    if world.town.faults.late_departures:
        return
    lanes: dict[int, list[Post]] = defaultdict(list)
    for post in world.witness.posts:
        lanes[post.lane].append(post)
    for posts in lanes.values():
        rate = world.town.instances[posts[0].instance_id].rate
        slowest_s, early_s = rate.interval_s / SLOWED_SHARE, rate.tolerance_s + SLOWED_SLACK_S
        for refused in (post.answered_s for post in posts if post.fate == "throttled" and post.answered_s is not None):
            after = [post.at_s for post in posts if refused < post.at_s < refused + SLOWED_FOR_S]
            for nth, first_s in enumerate(after):
                for more, at_s in enumerate(after[nth:]):
                    if at_s - first_s < more * slowest_s - early_s:
                        yield "I4", f"{more + 1} messages within {at_s - first_s:.2f} s after a refusal for rate"
                        return


def check_quota(world: World) -> Iterator[Violation]:
    """In any 24 hours no more unique people than the limit."""
    failed = reported_failed(world)
    scopes: dict[str, list[Post]] = defaultdict(list)
    limits: dict[str, int | None] = {}
    for post in world.witness.posts:
        instance = world.town.instances[post.instance_id]
        limits[instance.quota_scope] = instance.quota_limit
        if post.accepted and post.provider_message_id not in failed:
            scopes[instance.quota_scope].append(post)
    for scope, posts in scopes.items():
        limit = limits[scope]
        for nth, post in enumerate(posts):
            people = {one.recipient for one in posts[nth:] if one.arrived_s < post.arrived_s + DAY_S}
            if limit is not None and len(people) > limit:
                yield "I5", f"{len(people)} people in 24 h of {limit} ({scope})"
                break


def check_pause(world: World) -> Iterator[Violation]:
    """After `paused` or `cancelled` is acknowledged nothing leaves until a person resumes."""
    for campaign_id in {of: None for _, of, _ in world.witness.campaign_events}:
        moves = [(at_s, event) for at_s, of, event in world.witness.campaign_events if of == campaign_id]
        for nth, (at_s, event) in enumerate(moves):
            if not isinstance(event, events.CampaignPaused | events.CampaignCancelled):
                continue
            until_s = next((s for s, e in moves[nth + 1 :] if isinstance(e, events.CampaignResumed)), float("inf"))
            for post in world.witness.posts:
                if post.campaign_id == campaign_id and at_s < post.at_s < until_s:
                    yield "I6", f"a message left {post.at_s - at_s:.3f} s after {type(event).__name__}"


def check_hours_and_consent(world: World) -> Iterator[Violation]:
    policies = {campaign.id: campaign.definition.policy for campaign in world.town.campaigns}
    faults = world.town.faults
    late_s = (SENDER.intent_age_max_s if faults.skew_s else 0.0) + (LATE_S if faults.late_departures else 0.0)
    for post in world.witness.posts:
        at = START + timedelta(seconds=post.at_s)
        policy = policies[post.campaign_id]
        if not hours.is_open(policy, at) and not hours.is_open(policy, at - timedelta(seconds=late_s)):
            yield "I7", f"a message left at {at.time()}, outside the allowed hours"
    for at_s, _, _, recipient in world.witness.intents:
        if at_s > world.witness.opted_out_s.get(recipient, float("inf")):
            yield "I7", f"an intent for {recipient} after the committed opt-out"


def check_credit(world: World) -> Iterator[Violation]:
    """The scheduler's count of what is out is right at rest, and never was more out than the credit allows."""
    rows = world.database.tables[DISPATCH].values()
    for instance_id, lane in world.database.tables[LANE].items():
        out = sum(row["awaiting"] for row in rows if row["instance_id"] == instance_id)
        if lane["in_flight"] != out:
            yield "I14", f"{lane['in_flight']} counted as released, {out} are"
    yield from _check_out_at_once(world)


def _check_out_at_once(world: World) -> Iterator[Violation]:
    """By the first time each release was published and the first answer that ends it was told."""
    answers: dict[str, list[tuple[float, Any]]] = defaultdict(list)
    for record in world.kafka.records(topics.MESSAGE_SENT):
        answers[record.key or ""].append(((record.envelope.time - START).total_seconds(), record.event))
    for instance_id, instance in world.town.instances.items():
        spans = []
        for record in {r.envelope.id: r for r in world.kafka.records(topics.MESSAGE_QUEUED)}.values():
            message: Any = record.event
            if UUID(record.envelope.subject) == instance_id:
                begun_s = (record.envelope.time - START).total_seconds()
                told = answers[str(message.dispatch_id)]
                ended_s = min((at_s for at_s, event in told if _ends(event, message)), default=begun_s)
                spans += [(begun_s, 1), (max(begun_s, ended_s - 2 * world.town.faults.skew_s), -1)]
        out = most = 0
        for _, sign in sorted(spans):
            out += sign
            most = max(most, out)
        if most > max(1, int(instance.rate.per_second * PACING.horizon_s)):
            yield "I14", f"{most} messages released at once to {instance.config.name}"


def _ends(answer: Any, message: Any) -> bool:
    """A return ends its own release; what became of the attempt ends any; an acceptance ends the dispatch."""
    if isinstance(answer, MessageReturned):
        return (answer.attempt, answer.release) == (message.attempt, message.release)
    return isinstance(answer, MessageSent) or bool(answer.attempt == message.attempt)


def _most_within(times_s: list[float], window_s: float) -> int:
    times, most, first = sorted(times_s), 0, 0
    for last, at_s in enumerate(times):
        while times[first] <= at_s - window_s + ROUNDING_S:
            first += 1
        most = max(most, last - first + 1)
    return most


def check_retry_budget(world: World) -> Iterator[Violation]:
    """While a host is in trouble, retries are at most their share of first attempts and a few: counted from scratch."""
    policy = budget.Policy(share=SENDER.retry_share)
    lately: dict[Any, dict[Try, list[float]]] = defaultdict(lambda: defaultdict(list))
    for at_s, *life, what in world.witness.tries:
        times = lately[tuple(life)]
        if what not in ("retry", "retaken"):
            times[what].append(at_s)
            continue
        first, retried, failed, answered = (
            sum(0.5 ** ((at_s - one_s) / policy.half_life_s) for one_s in times[kind]) for kind in COUNTED
        )
        troubled = failed > max(0.5, policy.trouble * (failed + answered)) + ROUNDING_S
        if not troubled or retried + 1 <= policy.reserve + policy.share * first + ROUNDING_S:
            times["retry"].append(at_s)
        elif what == "retry":
            yield "I14", f"{retried + 1:.1f} retries lately for {first:.1f} first attempts at a host in trouble"
            return
