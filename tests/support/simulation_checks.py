"""What must hold of every run, whatever happened in it. Numbers as in the audit: I1 … I13.

Judged by the witness (what left, what providers did, what was committed when) and by the logs; the services' own tables
are only compared with them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID

from contracts import campaigns as events
from contracts import ids, topics
from contracts.messages import MessageFailed, MessageResolved, MessageReturned, MessageSent
from contracts.statuses import StatusReceived
from scheduler.lane import hours
from sender.ledger.attempt import NOT_ACCEPTED
from simulation_api import folded
from simulation_clock import START
from simulation_drivers import unmarked
from simulation_kafka import Record
from simulation_ledger import ATTEMPT
from simulation_projections import TOPICS, rebuild
from simulation_provider import Post
from simulation_scheduler import DISPATCH, LANE, PACING, Row
from simulation_town import SENDER
from simulation_world import World

FINAL = ("accepted", "failed", "skipped", "expired", "cancelled", "unresolved")
DAY_S = 86_400.0
ROUNDING_S = 1e-6
Violation = tuple[str, str]


def violations(world: World) -> list[Violation]:
    """(invariant, what was seen)."""
    if world.failure:
        return [("no crash", world.failure)]
    found = list(world.witness.violations)
    if not world.rested:
        found.append(("I13", f"not at rest after {world.loop.steps} steps and {world.loop.now:.0f} s"))
    for check in CHECKS:
        found += check(world)
    return found


def check_completeness(world: World) -> Iterator[Violation]:
    """Every recipient and step ends in one final state, or its campaign is paused; campaigns end, and rightly."""
    rows: dict[UUID, Row] = world.database.tables[DISPATCH]
    for campaign in world.town.campaigns:
        state = folded(world.database, campaign.id)
        own = [row for row in rows.values() if row["campaign_id"] == campaign.id]
        planned = len(campaign.recipients) * len(campaign.definition.steps)
        if state.status not in ("paused", "none", "draft", "cancelled") and len(own) != planned:
            yield "I1", f"{len(own)} of {planned} planned"
        if state.status == "paused":
            own = [row for row in own if row["state"] != "pending"]
        elif state.status not in ("completed", "cancelled"):
            yield "I1", f"campaign {campaign.number} ended as {state.status}"
        for row in own:
            if row["state"] not in FINAL:
                yield "I1", f"{row['dispatch_id']} is {row['state']} ({row['reason']}) in a {state.status} campaign"


def check_completed(world: World) -> Iterator[Violation]:
    """A campaign completes only after its last message; one that is reported failed later may be tried again."""
    failed = _reported_failed(world)
    again = {post.dispatch_id for post in world.witness.posts if post.provider_message_id in failed}
    for at_s, campaign_id, event in world.witness.campaign_events:
        if isinstance(event, events.CampaignCompleted) and not _resumed_after(world, campaign_id, at_s):
            for post in world.witness.posts:
                if post.campaign_id == campaign_id and post.at_s > at_s and post.dispatch_id not in again:
                    yield "I1", f"a message left {post.at_s - at_s:.1f} s after its campaign completed"


def check_failures(world: World) -> Iterator[Violation]:
    """Failed only for a reason: a definite refusal, or more counted refusals than retries."""
    counted: dict[UUID, int] = defaultdict(int)
    final: set[UUID] = set()
    told: set[UUID] = set()
    for record in world.kafka.records(topics.MESSAGE_SENT):
        event = record.event
        if isinstance(event, MessageFailed) and record.envelope.id not in told:
            told.add(record.envelope.id)
            counted[UUID(record.key)] += event.reason not in ("number_rate", "account_rate", "connect_failed")
            if not event.retryable:
                final.add(UUID(record.key))
    retries = {campaign.id: campaign.definition.policy.max_retries for campaign in world.town.campaigns}
    stopped = {
        of
        for _, of, event in world.witness.campaign_events
        if isinstance(event, events.CampaignPausing | events.CampaignCancelling)
    }
    for dispatch_id, row in world.database.tables[DISPATCH].items():
        exhausted = counted[dispatch_id] > retries[row["campaign_id"]] or row["campaign_id"] in stopped
        if row["state"] == "failed" and dispatch_id not in final and not exhausted:
            yield "I1", f"{dispatch_id} failed after {counted[dispatch_id]} counted refusals"


def check_at_most_once(world: World) -> Iterator[Violation]:
    """Of one dispatch at most one message that may have been accepted; under at_least_once one more per uncertainty."""
    failed = _reported_failed(world)
    uncertain: Counter[UUID] = Counter()
    for event_id in {r.envelope.id: r for r in world.kafka.records(topics.MESSAGE_SENT)}.values():
        if isinstance(event_id.event, MessageResolved) and event_id.event.outcome == "unresolved":
            uncertain[UUID(event_id.key)] += 1
    guarantees = {campaign.id: campaign.definition.policy.guarantee for campaign in world.town.campaigns}
    accepted: dict[UUID, list[Post]] = defaultdict(list)
    for post in world.witness.posts:
        if post.accepted and post.provider_message_id not in failed:
            accepted[post.dispatch_id].append(post)
    for dispatch_id, posts in accepted.items():
        allowed = 1 + (uncertain[dispatch_id] if guarantees[posts[0].campaign_id] == "at_least_once" else 0)
        if len(posts) > allowed:
            yield "I2", f"{dispatch_id} was accepted {len(posts)} times, at {[round(post.at_s, 2) for post in posts]}"


def check_truth(world: World) -> Iterator[Violation]:
    """Accepted only what a provider accepted; what it accepted is never called failed or never sent."""
    failed = _reported_failed(world)
    taken = {post.dispatch_id for post in world.witness.posts if post.accepted}
    standing = {p.dispatch_id for p in world.witness.posts if p.accepted and p.provider_message_id not in failed}
    shown = {post.dispatch_id for post in world.witness.posts if post.provider_message_id in _bindable(world)}
    answered = {
        post.dispatch_id for post in world.witness.posts
        if post.fate == "accept" and post.answered_s is not None and not world.town.faults.crash
        and not world.town.faults.stand
    }  # fmt: skip
    for dispatch_id, row in world.database.tables[DISPATCH].items():
        if row["state"] == "accepted" and dispatch_id not in taken:
            yield "I3", f"{dispatch_id} is called accepted and no provider took it"
        if row["state"] in ("failed", "skipped", "cancelled", "expired") and dispatch_id in standing:
            if row["may_duplicate"] or row["reason"] == "opted_out":
                continue
            yield "I3", f"{dispatch_id} is called {row['state']} and a provider took it"
        if row["state"] == "unresolved" and dispatch_id in (shown | answered) & standing:
            yield "I3", f"{dispatch_id} is called unresolved although it was reported"
        if row["state"] == "accepted" and dispatch_id in taken - standing and dispatch_id in shown:
            yield "I3", f"{dispatch_id} is called accepted and was reported failed"
    for (dispatch_id, number), row in world.database.tables[ATTEMPT].items():
        if row.state in ("intent", "ambiguous"):
            yield "I3", f"attempt {number} of {dispatch_id} is still {row.state}"


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


def check_quota(world: World) -> Iterator[Violation]:
    """In any 24 hours no more unique people than the limit."""
    failed = _reported_failed(world)
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
    skewed_s = SENDER.intent_age_max_s if world.town.faults.skew_s else 0.0
    for post in world.witness.posts:
        at = START + timedelta(seconds=post.at_s)
        policy = policies[post.campaign_id]
        if not hours.is_open(policy, at) and not hours.is_open(policy, at - timedelta(seconds=skewed_s)):
            yield "I7", f"a message left at {at.time()}, outside the allowed hours"
    for at_s, _, _, recipient in world.witness.intents:
        if at_s > world.witness.opted_out_s.get(recipient, float("inf")):
            yield "I7", f"an intent for {recipient} after the committed opt-out"


def check_projections(world: World) -> Iterator[Violation]:
    """Live rows are the fold of all facts, in whatever order, however often; and they agree with the scheduler."""
    facts = [record for topic in TOPICS for record in world.kafka.records(topic)]
    rng = Random(world.town.seed)
    again = facts + rng.sample(facts, len(facts) // 3)
    rng.shuffle(again)
    rebuilt = rebuild(_batches(again, rng))
    live = {t.partition(".")[2]: rows for t, rows in world.database.tables.items() if t.startswith("projections.")}
    live.pop("offset", None)
    for kind in sorted(rebuilt.keys() | live.keys()):
        one, other = _shown(kind, live.get(kind, {})), _shown(kind, rebuilt.get(kind, {}))
        if one != other:
            yield "I8", f"{kind}: live rows differ from a rebuild in {_differing(one, other)}"
    changes = live.get("change", {})
    for dispatch_id, row in world.database.tables[DISPATCH].items():
        shown = changes.get(dispatch_id.int)
        if shown is None or (shown.state, shown.attempt) != (row["state"], row["attempt"]):
            yield "I8", f"{dispatch_id} is {row['state']} and shown as {shown and shown.state}"
    levels = {"sent": 2, "delivered": 3, "read": 4}
    for record in world.kafka.records(topics.STATUS_RECEIVED):
        status = record.event
        if isinstance(status, StatusReceived) and status.status in levels:
            stored = live["status"].get(UUID(record.key).int)
            if stored is None or stored.delivery < levels[status.status]:
                yield "I8", f"{status.provider_message_id} was {status.status} and is shown lower"


def check_logs(world: World) -> Iterator[Violation]:
    """Every row of an outbox is in Kafka; streams have no gap and come first in their order."""
    for schema, topic_names in (("campaign", None), ("scheduler", None), ("sender", None)):
        rows = world.database.tables[f"{schema}.outbox"]
        if unmarked(world.database, f"{schema}.outbox"):
            yield "I9", f"{schema} has outbox rows that were never published"
        for _, row in sorted(rows.items()):
            if row.record.envelope.id not in _published(world, row.record.topic):
                yield "I9", f"{row.record.envelope.type} of {schema} is not in Kafka"
        assert topic_names is None
    first: dict[str, list[int]] = defaultdict(list)
    for record in world.kafka.records(topics.CAMPAIGNS):
        if record.envelope.stream_version not in first[record.envelope.subject]:
            first[record.envelope.subject].append(record.envelope.stream_version or 0)
    for subject, versions in first.items():
        if versions != list(range(1, len(versions) + 1)):
            yield "I9", f"stream {subject} came as {versions}"


def check_webhooks(world: World) -> Iterator[Violation]:
    """What was answered 200 is in Kafka, and what it says in the topics that are read."""
    raw = Counter(record.event.body for record in world.kafka.records(topics.WEBHOOK_RECEIVED))  # type: ignore[attr-defined]
    for body, count in Counter(world.witness.acknowledged_webhooks).items():
        if raw[body.decode()] < count:
            yield "I11", "a webhook that was answered 200 is missing"
    known = world.kafka.event_ids(topics.STATUS_RECEIVED) | world.kafka.event_ids(topics.MESSAGE_RECEIVED)
    for record in world.kafka.records(topics.WEBHOOK_RECEIVED):
        for report in world.ingest.read(record):
            if report.envelope.id not in known:
                yield "I11", f"{report.envelope.type} of a webhook was never told"


def check_fencing(world: World) -> Iterator[Violation]:
    highest: dict[UUID, int] = {}
    for _, instance_id, epoch, _ in world.witness.intents:
        if epoch < highest.get(instance_id, 0):
            yield "I12", f"an intent of epoch {epoch} after one of {highest[instance_id]}"
        highest[instance_id] = max(epoch, highest.get(instance_id, 0))


def check_credit(world: World) -> Iterator[Violation]:
    """The scheduler's count of what is out is right at rest, and never was more out than the credit allows."""
    rows = world.database.tables[DISPATCH].values()
    for instance_id, lane in world.database.tables[LANE].items():
        out = sum(row["awaiting"] for row in rows if row["instance_id"] == instance_id)
        if lane["in_flight"] != out:
            yield "I14", f"{lane['in_flight']} counted as released, {out} are"
    yield from _check_out_at_once(world)


def _check_out_at_once(world: World) -> Iterator[Violation]:
    """By the first time each release was published and each answer was told."""
    answers: dict[tuple[str, int], float] = {}
    for record in world.kafka.records(topics.MESSAGE_SENT):
        event = record.event
        key = f"{record.key}:{event.attempt}", event.release  # type: ignore[attr-defined]
        at_s = (record.envelope.time - START).total_seconds()
        answers[key] = min(at_s, answers.get(key, at_s))
        if isinstance(event, MessageSent | MessageFailed | MessageReturned):
            continue
    for instance_id, instance in world.town.instances.items():
        spans = []
        for record in {r.envelope.id: r for r in world.kafka.records(topics.MESSAGE_QUEUED)}.values():
            message: Any = record.event
            if UUID(record.envelope.subject) == instance_id:
                begun_s = (record.envelope.time - START).total_seconds()
                ended_s = answers.get((f"{message.dispatch_id}:{message.attempt}", message.release), begun_s)
                spans += [(begun_s, 1), (max(begun_s, ended_s - 2 * world.town.faults.skew_s), -1)]
        out = most = 0
        for _, sign in sorted(spans):
            out += sign
            most = max(most, out)
        if most > max(1, int(instance.rate.per_second * PACING.horizon_s)):
            yield "I14", f"{most} messages released at once to {instance.config.name}"


def check_steps(world: World) -> Iterator[Violation]:
    """A step leaves only after the one before it was accepted, or was called so."""
    first: dict[UUID, float] = {}
    for post in world.witness.posts:
        first.setdefault(post.dispatch_id, post.at_s)
    for (dispatch_id, _), row in world.database.tables[ATTEMPT].items():
        message = row.message
        before = None
        if message.recipient_id is not None and message.step:
            before = world.database.tables[DISPATCH].get(ids.dispatch_id(message.recipient_id, message.step - 1))
        if before is not None and row.state not in NOT_ACCEPTED and before["dispatch_id"] not in first:
            yield "I1", f"step {message.step} of {dispatch_id} left before the one before it"


def _reported_failed(world: World) -> set[str]:
    """Provider's ids of messages that were reported failed before anything reported that they had arrived."""
    failed: set[str] = set()
    arrived: set[str] = set()
    for record in world.kafka.records(topics.STATUS_RECEIVED):
        status: Any = record.event
        if status.status in ("delivered", "read"):
            arrived.add(status.provider_message_id)
        elif status.status == "failed" and status.provider_message_id not in arrived:
            failed.add(status.provider_message_id)
    return failed


def _bindable(world: World) -> set[str]:
    """Provider's ids that some report lets bind to an attempt: with our label, or as an echo of the text."""
    records: list[Any] = world.kafka.records(topics.STATUS_RECEIVED) + world.kafka.records(topics.MESSAGE_RECEIVED)
    return {
        record.event.provider_message_id for record in records
        if getattr(record.event, "client_ref", None) or getattr(record.event, "direction", None) == "out"
    }  # fmt: skip


def _resumed_after(world: World, campaign_id: UUID, at_s: float) -> bool:
    return any(
        of == campaign_id and s > at_s and isinstance(event, events.CampaignResumed)
        for s, of, event in world.witness.campaign_events
    )


def _most_within(times_s: list[float], window_s: float) -> int:
    times, most, first = sorted(times_s), 0, 0
    for last, at_s in enumerate(times):
        while times[first] <= at_s - window_s + ROUNDING_S:
            first += 1
        most = max(most, last - first + 1)
    return most


def _batches(records: list[Record], rng: Random) -> Iterator[list[Record]]:
    start = 0
    while start < len(records):
        size = rng.choice((1, 3, 20))
        yield records[start : start + size]
        start += size


def _shown(kind: str, rows: dict[Any, Any]) -> dict[Any, Any]:
    """A count that came back to nothing is no row; a register's keys are of no interest."""
    if kind == "counter":
        return {key: value for key, value in rows.items() if value}
    return rows


def _differing(one: dict[Any, Any], other: dict[Any, Any]) -> list[Any]:
    return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)][:2]


def _published(world: World, topic: topics.Topic) -> set[UUID]:
    cache: dict[str, set[UUID]] = world.__dict__.setdefault("published", {})
    if topic.name not in cache:
        cache[topic.name] = world.kafka.event_ids(topic)
    return cache[topic.name]


CHECKS = (
    check_completeness, check_completed, check_failures, check_at_most_once, check_truth, check_rates, check_quota,
    check_pause, check_hours_and_consent, check_projections, check_logs, check_webhooks, check_fencing, check_credit,
    check_steps,
)  # fmt: skip
