"""A check that never failed proves nothing: faults planted in the folds and their SQL must be found.

Each is what a tired programmer would write; the search of test_convergence has to tell it from the real thing.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from projection_histories import draw_history
from projection_parts import draw_arrived, project, shuffle, split
from projections import registers
from projections.campaign import counters, dispatches, recipients, replies, words
from projections.campaign import lifecycle as campaigns
from projections.contact import allocations, contacts, people
from projections.conversation import conversations, message_rows, messages

pytestmark = pytest.mark.postgres
HISTORIES = 60


@dataclass(frozen=True)
class Fault:
    """Replaces `name` of `module`; a text is cut out of an SQL constant."""

    story: str
    module: Any
    name: str
    planted: Callable[[Any], Any]


def sql(story: str, module: Any, name: str, right: str, wrong: str) -> Fault:
    def plant(statement: str) -> str:
        assert right in statement, f"{story}: nothing to replace"
        return statement.replace(right, wrong)

    return Fault(story, module, name, plant)


def _last_wins(registers_fold: Callable[..., Any]) -> Callable[..., Any]:
    def fold(row: dict[str, Any], fact: registers.Fact) -> dict[str, Any]:
        return row | dict(fact.values) | dict(fact.firsts) | {"keys": dict.fromkeys(fact.values, fact.key)}

    return fold


def _first_seen_stays(right: Callable[..., Any]) -> Callable[..., Any]:
    def fold(row: dict[str, Any], fact: registers.Fact) -> dict[str, Any]:
        unseen = {name: value for name, value in fact.firsts.items() if name not in row["keys"]}
        folded: dict[str, Any] = right(row, registers.Fact(fact.account_id, fact.id, fact.key, fact.values, unseen))
        return folded

    return fold


def _newest_status(_: object) -> Callable[..., Any]:
    return lambda one, other: other


def _failed_erases(right: Callable[..., Any]) -> Callable[..., Any]:
    def join(one: messages.StatusPart, other: messages.StatusPart) -> messages.StatusPart:
        joined: messages.StatusPart = right(one, other)
        return joined._replace(delivery=0, delivered_at=None) if other.failed_at else joined

    return join


def _counts_duplicates(right: Callable[..., Any]) -> Callable[..., Any]:
    def count(moves: Any) -> Any:
        return right([[*row[:2], False, *row[3:]] for row in moves])

    return count


def _any_send_replied(_: object) -> Callable[..., Any]:
    def find(sends: Any, inbound: Any) -> Any:
        return {send: next(iter(inbound), None) for send in sends}

    return find


def _no_transitive(_: object) -> Callable[..., Any]:
    def group(shared: Any) -> Any:
        by_alias: dict[str, list[Any]] = {}
        for alias, contact in shared:
            by_alias.setdefault(alias, []).append(contact)
        return [sorted(ids) for ids in by_alias.values()]

    return group


def _last_of_batch(_: object) -> Callable[..., Any]:
    return lambda rows, join: {(row[0].int, row[1].int): row for row in rows}


FAULTS = [
    Fault("registers: the last event wins, not the highest version", registers, "fold", _last_wins),
    Fault("registers: created_at is that of the event read first", registers, "fold", _first_seen_stays),
    Fault("campaigns: ordered by run, not by version", campaigns, "version_key", lambda _: lambda envelope: "1"),
    Fault("statuses: the last of a batch wins", messages, "join_statuses", _newest_status),
    Fault("statuses: failed erases delivered", messages, "join_statuses", _failed_erases),
    sql("statuses: overwritten instead of max", message_rows, "OUTBOUND",
        "delivery = greatest(m.delivery, excluded.delivery)", "delivery = excluded.delivery"),
    sql("statuses: the first delivered time stays, however late", message_rows, "OUTBOUND",
        "delivered_at = least(m.delivered_at, excluded.delivered_at)",
        "delivered_at = coalesce(m.delivered_at, excluded.delivered_at)"),
    sql("statuses: the last failure wins", message_rows, "OUTBOUND",
        "< (m.failed_at, m.failure, m.code, m.detail)", "IS NOT NULL"),
    sql("messages: a status that came before what came is lost", message_rows, "INBOUND",
        "delivery = greatest(m.delivery, excluded.delivery)", "delivery = excluded.delivery"),
    sql("messages: the send never joins an existing row", message_rows, "OUTBOUND",
        "OR m.send_event IS NULL AND excluded.send_event IS NOT NULL", ""),
    sql("messages: an edit overwrites a newer one", message_rows, "EDITED",
        "excluded.edited_at > m.edited_at THEN", "true THEN"),
    sql("dispatches: any version overwrites", dispatches, "UPSERT", "excluded.version > d.version",
        "excluded.version >= 0"),
    sql("dispatches: the first version stays", dispatches, "UPSERT", "excluded.version > d.version", "d.version < 0"),
    Fault("dispatches: the last change of a batch wins", words, "fold", _last_of_batch),
    sql("dispatches: a plan says nothing of one that evidence told of before", dispatches, "INSERT_PLANNED",
        "AND (account_id, id) NOT IN (SELECT account_id, id FROM moved)", "AND false"),
    sql("dispatches: a later step's plan never looks at what happened to an earlier one", dispatches, "INSERT_PLANNED",
        "FROM moved WHERE EXISTS", "FROM moved WHERE false AND EXISTS"),
    Fault("dispatches: planned counts for all that was ever said", words, "_is_planned",
        lambda _: lambda change: change.state == "pending"),
    sql("dispatches: delivery follows the last message", dispatches, "UPSERT",
        "delivery = greatest(d.delivery, excluded.delivery)", "delivery = excluded.delivery"),
    sql("dispatches: the last failure told is shown", dispatches, "UPSERT",
        "excluded.error_key > d.error_key", "excluded.error_key <> ''"),
    sql("dispatches: one that changes state is counted in both", dispatches, "UPSERT", "ELSE old_state END, -t.rows)",
        "ELSE old_state END, 0)"),
    sql("recipients: once queued, always queued", recipients, "SUMMARIES",
        "queued = excluded.queued", "queued = r.queued OR excluded.queued"),
    sql("recipients: the last import wins", recipients, "IDENTITIES",
        "WHERE r.source_event IS NULL OR (-excluded.audience, excluded.source_event) < (-r.audience, r.source_event)",
        ""),
    sql("recipients: who is replaced stays", recipients, "REPLACED", "r.audience < g.first_chunk", "false"),
    sql("recipients: who comes after the replacement counts", recipients, "NEWEST", "WHERE", "WHERE false AND"),
    sql("recipients: found before its plan, it keeps waiting", recipients, "SUMMARIES",
        "state = excluded.state,", "state = CASE WHEN r.source_event IS NULL THEN excluded.state ELSE r.state END,"),
    Fault("counters: added again for each repetition", counters, "count_moves", _counts_duplicates),
    sql("counters: the day keeps what moved to another", message_rows, "OUTBOUND",
        "(s.old_id, s.old_quarter, -t.rows)", "(s.old_id, s.old_quarter, 0)"),
    sql("counters: a failure stays counted once delivered", dispatches, "UPSERT", "AND new.delivery < 3", ""),
    Fault("replies: the inbound that came first in the log counts", replies, "find_replies", _any_send_replied),
    sql("conversations: the last message seen is the newest", conversations, "UPSERT",
        "last_message_id = CASE WHEN (excluded.last_at, excluded.last_message_id) > (c.last_at, c.last_message_id)",
        "last_message_id = CASE WHEN true"),
    sql("conversations: the profile name of the last message read", conversations, "UPSERT",
        "OR (excluded.profile_at, excluded.profile_name) > (c.profile_at, c.profile_name)",
        "OR excluded.profile_at IS NOT NULL"),
    sql("allocations: the last word read wins", allocations, "UPSERT",
        "WHERE (excluded.allocated_at, excluded.event_id) > (a.allocated_at, a.event_id)", ""),
    Fault("contacts: aliases are not followed further", contacts, "group", _no_transitive),
    sql("contacts: who was merged stays beside the person", people, "_LEAVE", "WHERE", "WHERE false AND"),
    sql("contacts: who shares an alias is not looked up", people, "_SHARING",
        "AND alias = own.alias", "AND alias = own.alias AND contact_id = own.contact_id"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.story)
async def test_a_planted_fault_is_found(
    worker: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(fault.module, fault.name, fault.planted(getattr(fault.module, fault.name)))

    for seed in range(HISTORIES):
        rng = random.Random(seed)
        history = draw_arrived(draw_history(seed), rng)
        try:
            one = await project(worker, split(history, rng, 8))
            other = await project(worker, split(shuffle(history, rng), rng, 8))
        except (asyncpg.PostgresError, KeyError):
            return  # so wrong that it does not even run
        if one != other:
            return
    pytest.fail(f"not found in {HISTORIES} histories: {fault.story}")
