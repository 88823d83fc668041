"""Dispatch rows: loading under lock, writing what the pure rules decided, following steps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from contracts.progress import FINAL_STATES, DispatchChange
from scheduler.dispatch import automaton
from scheduler.dispatch.automaton import Dispatch
from scheduler.rows import Row

_FIELDS = """dispatch_id, account_id, campaign_id, recipient_id, contact_id, instance_id, step, state, waits, reason,
    due_at, attempt, release, retries, run_epoch, awaiting, may_duplicate, retryable, revoked, version"""
_LOCK = f"SELECT {_FIELDS} FROM dispatch WHERE dispatch_id = ANY($1::uuid[]) ORDER BY dispatch_id FOR UPDATE"  # noqa: S608
# What happens most: one statement with short arrays.
_ACCEPT = """
UPDATE dispatch d SET state = 'accepted', waits = NULL, reason = NULL, due_at = NULL, awaiting = false,
    attempt = a.attempt, version = d.version + 1, ended_at = statement_timestamp()
FROM unnest($1::uuid[], $2::int[]) AS a(dispatch_id, attempt) WHERE d.dispatch_id = a.dispatch_id
"""
_CHANGE = """
UPDATE dispatch d SET state = c.state, waits = c.waits, reason = c.reason, due_at = c.due_at, attempt = c.attempt,
    release = c.release, retries = c.retries, awaiting = c.awaiting, may_duplicate = c.may_duplicate,
    retryable = c.retryable, revoked = c.revoked, version = d.version + 1,
    ended_at = CASE WHEN c.final THEN statement_timestamp() END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::int[], $7::int[], $8::int[],
    $9::bool[], $10::bool[], $11::bool[], $12::int[], $13::bool[])
    AS c(dispatch_id, state, waits, reason, due_at, attempt, release, retries, awaiting, may_duplicate, retryable,
    revoked, final)
WHERE d.dispatch_id = c.dispatch_id
"""
_OPEN = f"""
UPDATE dispatch SET waits = NULL, reason = NULL, version = version + 1
WHERE dispatch_id = ANY($1::uuid[]) AND state = 'pending' AND waits = 'previous_step' RETURNING {_FIELDS}
"""  # noqa: S608
_ERASED = "SELECT recipient_id FROM recipient WHERE recipient_id = ANY($1::uuid[]) AND erased"
_SKIP = """
UPDATE dispatch d SET state = 'skipped', waits = NULL, due_at = NULL, reason = s.reason, version = d.version + 1,
    ended_at = statement_timestamp()
FROM unnest($1::uuid[], $2::text[]) AS s(dispatch_id, reason)
WHERE d.dispatch_id = s.dispatch_id AND d.state = 'pending'
RETURNING d.dispatch_id, d.account_id, d.campaign_id, d.recipient_id, d.contact_id, d.instance_id, d.step, d.state,
    d.waits, d.reason, d.due_at, d.attempt, d.release, d.retries, d.run_epoch, d.awaiting, d.may_duplicate,
    d.retryable, d.revoked, d.version
"""


@dataclass(slots=True)
class Loaded:
    """A dispatch under lock: `before` as stored, `after` as decided so far."""

    row: Row
    before: Dispatch
    after: Dispatch

    @property
    def changed(self) -> bool:
        return self.after is not self.before and self.after != self.before

    def describe(self) -> DispatchChange:
        """As it is once written."""
        row, after = self.row, self.after
        return DispatchChange(
            dispatch_id=row["dispatch_id"],
            recipient_id=row["recipient_id"],
            step=row["step"],
            instance_id=row["instance_id"],
            version=row["version"] + 1,
            attempt=after.attempt,
            release=after.release,
            state=after.state,
            reason=after.reason,
            due_at=after.due_at,
            may_duplicate=after.may_duplicate,
        )


def read_dispatch(row: Row) -> Dispatch:
    return Dispatch(
        state=row["state"],
        attempt=row["attempt"],
        release=row["release"],
        retries=row["retries"],
        run_epoch=row["run_epoch"],
        waits=row["waits"],
        reason=row["reason"],
        due_at=row["due_at"],
        awaiting=row["awaiting"],
        may_duplicate=row["may_duplicate"],
        retryable=row["retryable"],
        revoked=row["revoked"],
    )


async def lock(raw: asyncpg.Connection, dispatch_ids: Iterable[UUID]) -> dict[UUID, Loaded]:
    """After the locks of their lanes and campaigns."""
    loaded: dict[UUID, Loaded] = {}
    for row in await raw.fetch(_LOCK, list(set(dispatch_ids))):
        dispatch = read_dispatch(row)
        loaded[row["dispatch_id"]] = Loaded(row, dispatch, dispatch)
    return loaded


async def keep_from_erased(raw: asyncpg.Connection, changed: Iterable[Loaded]) -> None:
    """What came back or failed is not tried again with a person who was erased meanwhile."""
    back = [one for one in changed if one.after.state in ("pending", "failed") and one.row["campaign_id"] is not None]
    if back:
        rows = await raw.fetch(_ERASED, [one.row["recipient_id"] for one in back])
        erased = {row["recipient_id"] for row in rows}
        for one in back:
            if one.row["recipient_id"] in erased:
                one.after = automaton.erase(one.after)


async def save(raw: asyncpg.Connection, loaded: Iterable[Loaded]) -> None:
    changed = [one for one in loaded if one.changed]
    accepted = [one for one in changed if one.after.state == "accepted"]
    others = [one for one in changed if one.after.state != "accepted"]
    if accepted:
        await raw.execute(
            _ACCEPT, [one.row["dispatch_id"] for one in accepted], [one.after.attempt for one in accepted]
        )
    if others:
        after = [one.after for one in others]
        await raw.execute(
            _CHANGE,
            [one.row["dispatch_id"] for one in others],
            [one.state for one in after],
            [one.waits for one in after],
            [one.reason for one in after],
            [one.due_at for one in after],
            [one.attempt for one in after],
            [one.release for one in after],
            [one.retries for one in after],
            [one.awaiting for one in after],
            [one.may_duplicate for one in after],
            [one.retryable for one in after],
            [one.revoked for one in after],
            [one.state in FINAL_STATES for one in after],
        )


async def open_next(raw: asyncpg.Connection, dispatch_ids: Sequence[UUID]) -> Sequence[Row]:
    """Steps whose previous one was accepted: their turn."""
    rows: Sequence[Row] = await raw.fetch(_OPEN, dispatch_ids) if dispatch_ids else []
    return rows


async def skip(raw: asyncpg.Connection, reasons: Mapping[UUID, str]) -> Sequence[Row]:
    """`reasons`: dispatch -> why. Only what is pending."""
    rows: Sequence[Row] = await raw.fetch(_SKIP, list(reasons), list(reasons.values())) if reasons else []
    return rows
