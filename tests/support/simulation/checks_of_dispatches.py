"""I1 to I3: every dispatch ends, once, rightly, and as the providers saw it."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from contracts import campaigns as events
from contracts import ids, topics
from contracts.messages import MessageFailed, MessageResolved
from sender.ledger.attempt import NOT_ACCEPTED
from simulation.api import folded
from simulation.ledger_rows import ATTEMPT
from simulation.scheduler_tables import DISPATCH, Row
from simulation.witness import Post
from simulation.world import Violation, World

UNCOUNTED = ("number_rate", "account_rate", "connect_failed")  # whatever the services say
FINAL = ("accepted", "failed", "skipped", "expired", "cancelled", "unresolved")


def check_completeness(world: World) -> Iterator[Violation]:
    """Every recipient and step ends in one final state, or its campaign is paused; campaigns end, and rightly."""
    rows: dict[UUID, Row] = world.database.tables[DISPATCH]
    for campaign in world.town.campaigns:
        state = folded(world.database, campaign.id)
        own = [row for row in rows.values() if row["campaign_id"] == campaign.id]
        planned = len(campaign.recipients) * len(campaign.definition.steps)
        started = state.run_epoch > 0 and state.status != "paused"
        if started and len(own) != planned:
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
    failed = reported_failed(world)
    again = {post.dispatch_id for post in world.witness.posts if post.provider_message_id in failed}
    for at_s, campaign_id, event in world.witness.campaign_events:
        if isinstance(event, events.CampaignCompleted) and not _resumed_after(world, campaign_id, at_s):
            for post in world.witness.posts:
                if post.campaign_id == campaign_id and post.at_s > at_s and post.dispatch_id not in again:
                    yield "I1", f"a message left {post.at_s - at_s:.1f} s after its campaign completed"


def check_failures(world: World) -> Iterator[Violation]:
    """Failed only for a reason: a definite refusal, or more counted refusals (and doubts, under at_least_once) than
    retries."""
    counted: dict[UUID, int] = defaultdict(int)
    final: set[UUID] = set()
    told: set[UUID] = set()
    for record in world.kafka.records(topics.MESSAGE_SENT):
        event = record.event
        if isinstance(event, MessageFailed) and record.envelope.id not in told:
            told.add(record.envelope.id)
            counted[UUID(record.key)] += event.counts and event.reason not in UNCOUNTED
            if not event.retryable:
                final.add(UUID(record.key))
    policies = {campaign.id: campaign.definition.policy for campaign in world.town.campaigns}
    doubts = _unresolved(world)
    stopped = {
        of
        for _, of, event in world.witness.campaign_events
        if isinstance(event, events.CampaignPausing | events.CampaignCancelling)
    }
    for dispatch_id, row in world.database.tables[DISPATCH].items():
        policy = policies[row["campaign_id"]]
        used_up = counted[dispatch_id] + doubts[dispatch_id] * (policy.guarantee == "at_least_once")
        exhausted = used_up > policy.max_retries or row["campaign_id"] in stopped
        if row["state"] == "failed" and dispatch_id not in final and not exhausted:
            yield "I1", f"{dispatch_id} failed after {counted[dispatch_id]} counted refusals"


def check_at_most_once(world: World) -> Iterator[Violation]:
    """Of one dispatch at most one message that may have been accepted; under at_least_once one more per uncertainty,
    and not without end: a resume gives fresh retries, nothing else does."""
    failed = reported_failed(world)
    doubts = _unresolved(world)
    resumed = Counter(of for _, of, event in world.witness.campaign_events if isinstance(event, events.CampaignResumed))
    policies = {campaign.id: campaign.definition.policy for campaign in world.town.campaigns}
    accepted: dict[UUID, list[Post]] = defaultdict(list)
    for post in world.witness.posts:
        if post.accepted and post.provider_message_id not in failed:
            accepted[post.dispatch_id].append(post)
    for dispatch_id, posts in accepted.items():
        campaign_id = posts[0].campaign_id
        policy = policies[campaign_id]
        again_max = policy.max_retries * (1 + resumed[campaign_id])
        allowed = 1 + (min(doubts[dispatch_id], again_max) if policy.guarantee == "at_least_once" else 0)
        if len(posts) > allowed:
            yield "I2", f"{dispatch_id} was accepted {len(posts)} times, at {[round(post.at_s, 2) for post in posts]}"


def check_truth(world: World) -> Iterator[Violation]:
    """Accepted only what a provider accepted; what it accepted is never called failed or never sent."""
    failed = reported_failed(world)
    taken = {post.dispatch_id for post in world.witness.posts if post.accepted}
    standing = {p.dispatch_id for p in world.witness.posts if p.accepted and p.provider_message_id not in failed}
    bindable, delivered = _bindable(world), _arrived(world)
    shown = {post.dispatch_id for post in world.witness.posts if post.provider_message_id in bindable}
    arrived = {post.dispatch_id for post in world.witness.posts if post.provider_message_id in delivered}
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
        if row["state"] == "accepted" and dispatch_id in taken - standing - arrived and dispatch_id in shown:
            yield "I3", f"{dispatch_id} is called accepted and was reported failed"
    for (dispatch_id, number), row in world.database.tables[ATTEMPT].items():
        if row.state in ("intent", "ambiguous"):
            yield "I3", f"attempt {number} of {dispatch_id} is still {row.state}"


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


def _unresolved(world: World) -> Counter[UUID]:
    """By dispatch, how many of its attempts were left open."""
    told = {record.envelope.id: record for record in world.kafka.records(topics.MESSAGE_SENT)}.values()
    return Counter(
        UUID(record.key)
        for record in told
        if isinstance(record.event, MessageResolved) and record.event.outcome == "unresolved"
    )


def _resumed_after(world: World, campaign_id: UUID, at_s: float) -> bool:
    return any(
        of == campaign_id and s > at_s and isinstance(event, events.CampaignResumed)
        for s, of, event in world.witness.campaign_events
    )


def reported_failed(world: World) -> set[str]:
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


def _arrived(world: World) -> set[str]:
    """Provider's ids of messages that were reported delivered or read, be it after they were reported failed."""
    records: list[Any] = world.kafka.records(topics.STATUS_RECEIVED)
    return {r.event.provider_message_id for r in records if r.event.status in ("delivered", "read")}


def _bindable(world: World) -> set[str]:
    """Provider's ids that some report lets bind to an attempt: with our label, or as an echo of the text."""
    records: list[Any] = world.kafka.records(topics.STATUS_RECEIVED) + world.kafka.records(topics.MESSAGE_RECEIVED)
    return {
        record.event.provider_message_id for record in records
        if getattr(record.event, "client_ref", None) or getattr(record.event, "direction", None) == "out"
    }  # fmt: skip
