"""Projections in the simulation: `gather`, the folds and the counters are real; a table row is what they fold into.

The statements that join a stored row with a batch's row are SQL in the service; here the same joins do it.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from contracts import topics
from contracts.ids import dispatch_id
from projections import registers, timeline
from projections.campaign import counters, lifecycle, recipients, words
from projections.conversation import messages
from projections.folding import fold, greatest, least
from simulation.clock import Process, Steps
from simulation.drivers import consume
from simulation.kafka import Kafka, Record
from simulation.postgres import Database, Transaction
from simulation.town import ACCOUNT

TOPICS = (
    topics.CAMPAIGNS, topics.CAMPAIGN_RECIPIENTS, topics.CAMPAIGN_PROGRESS, topics.MESSAGE_SENT, topics.STATUS_RECEIVED,
)  # fmt: skip
STEPS_MAX = 3
Get = Callable[[str, Any], Any]
Put = Callable[[str, Any, Any], None]
NOBODY = (False, "pending", False, None, 0, False)


class Projections:
    def __init__(self, database: Database, kafka: Kafka, flaws: frozenset[str]) -> None:
        self.database, self.kafka, self.flaws = database, kafka, flaws

    def boot(self, process: Process) -> list[Steps[None]]:
        handle = partial(_handle, self.flaws)
        return [consume(process, self.database, self.kafka, "projections", TOPICS, handle, self.flaws)]


def _handle(flaws: frozenset[str], transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
    def get(kind: str, key: Any) -> Any:
        return transaction.read(f"projections.{kind}", key)

    def put(kind: str, key: Any, value: Any) -> None:
        transaction.write(f"projections.{kind}", key, value)

    yield 0.0
    apply(get, put, batch, flaws)


def rebuild(records: Iterable[Sequence[Record]]) -> dict[str, dict[Any, Any]]:
    """A fresh fold of batches."""
    tables: dict[str, dict[Any, Any]] = {}
    for batch in records:
        apply(
            lambda kind, key: tables.get(kind, {}).get(key),
            lambda kind, key, value: tables.setdefault(kind, {}).__setitem__(key, value),
            batch,
            frozenset(),
        )
    return tables


def apply(get: Get, put: Put, batch: Sequence[Record], flaws: frozenset[str]) -> None:
    readable = [(one.envelope, one.event) for one in batch if type(one.event) in timeline.TYPES]
    given = timeline.Gathered()
    timeline.gather(given, readable)
    for fact in given.campaigns:
        row = get("campaign", fact.id) or {**lifecycle.EMPTY, "id": fact.id}
        put("campaign", fact.id, registers.fold(row, fact))
    seen: dict[int, UUID] = {}
    for kind, parts, join in (
        ("sent", given.sent, least(messages.SentPart._fields.index("send_event"))),
        ("status", given.statuses, messages.join_statuses),
    ):
        for part in _join(get, put, kind, parts, join):
            seen[part.id.int] = part.id
    dirty = _join_dispatches(get, put, given, [_show(get, message_id) for message_id in seen.values()])
    joined = _join(get, put, "identity", given.identities, least(recipients.Identity._fields.index("source_event")))
    for one in joined:
        dirty[one.id.int] = (one.id, one.campaign_id)
    counted = "counted_without_transition" not in flaws
    moves = [_summarise(get, put, recipient, campaign, counted) for _, (recipient, campaign) in sorted(dirty.items())]
    for place, count in counters.count_moves(moves).items():
        put("counter", place, (get("counter", place) or 0) + count)


def _join(get: Get, put: Put, kind: str, parts: Iterable[Any], join: Any) -> list[Any]:
    """What the upsert does: the stored row joined with the batch's. Gives the rows that changed."""
    changed = []
    for row in fold(parts, join).values():
        stored = get(kind, row.id.int)
        joined = row if stored is None else join(stored, row)
        if joined != stored:
            put(kind, row.id.int, joined)
            changed.append(joined)
    return changed


def _show(get: Get, message_id: UUID) -> words.Evidence | None:
    """What a message shows of its dispatch; nothing until it is known whose it is."""
    sent, status = get("sent", message_id.int), get("status", message_id.int)
    if sent is None:
        return None
    delivery = max(messages.ACCEPTED, 0 if status is None else status.delivery)
    times = (None, None) if status is None else (status.delivered_at, status.read_at)
    return words.Evidence(
        ACCOUNT,
        sent.dispatch_id,
        sent.campaign_id,
        sent.recipient_id,
        sent.step,
        sent.id,
        sent.sent_at,
        delivery,
        *times,
    )


def _join_dispatches(
    get: Get, put: Put, given: timeline.Gathered, shown: Iterable[words.Evidence | None]
) -> dict[int, tuple[UUID, UUID]]:
    changed = _join(get, put, "change", given.changes, greatest(words.Change._fields.index("version")))
    changed += _join(get, put, "shown", [one for one in shown if one is not None], words.join_evidence)
    changed += _join(get, put, "failure", given.failures, greatest(words.Failure._fields.index("key")))
    return {one.recipient_id.int: (one.recipient_id, one.subject_id) for one in changed if one.recipient_id is not None}


def _summarise(get: Get, put: Put, recipient: UUID, campaign: UUID, counted: bool) -> tuple[Any, ...]:
    """As recipients.SUMMARIES: worst-first over the dispatches; the move for the counters."""
    before = get("recipient", recipient.int) if counted else None
    before = before or NOBODY
    ranks, deliveries, reasons = [], [], []
    for step in range(STEPS_MAX):
        key = dispatch_id(recipient, step).int
        change, evidence = get("change", key), get("shown", key)
        if change is None and evidence is None and get("failure", key) is None:
            continue
        delivery = 0 if evidence is None else evidence.delivery
        state = "pending" if change is None else change.state
        if state == "failed" and delivery >= messages.DELIVERED:
            state = "accepted"
        ranks.append(recipients.WORST_FIRST.index(state))
        deliveries.append(delivery)
        reasons.append(None if change is None else change.reason)
    worst = min(ranks, default=5)
    after = (
        get("identity", recipient.int) is not None,
        recipients.WORST_FIRST[5 if worst == 6 else worst],
        worst in (5, 6) and 6 in ranks,
        reasons[ranks.index(worst)] if ranks and worst < 7 else None,
        min(deliveries) if ranks and worst == 7 else 0,
        False,
    )
    put("recipient", recipient.int, after)
    return (ACCOUNT, campaign, *before, *after, 1)
