"""Gates in PostgreSQL: closing one waits for the intents that share it, and from its commit on none passes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, assert_never
from uuid import UUID

import asyncpg

from sender.ledger.erasure import FORGOTTEN_KEY, forget

# The exclusive lock comes with the write.
_CLOSE = """
INSERT INTO gate AS g (scope, key, account_id, closed_through, cancelled, closing, asked_by)
VALUES ('campaign', $1, $2, $3, $4, true, $5)
ON CONFLICT (scope, key) DO UPDATE
SET closed_through = greatest(g.closed_through, excluded.closed_through), cancelled = g.cancelled OR excluded.cancelled,
    closing = true, asked_by = excluded.asked_by, account_id = excluded.account_id
"""
_HOLD = """
INSERT INTO gate AS g (scope, key, account_id, held, version) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (scope, key) DO UPDATE
SET held = excluded.held, version = excluded.version, account_id = excluded.account_id,
    stopped_reason = CASE WHEN excluded.held THEN g.stopped_reason END,
    stopped_until = CASE WHEN excluded.held THEN g.stopped_until END
WHERE g.version < excluded.version
RETURNING old.stopped_reason IS NOT NULL AND new.stopped_reason IS NULL AS freed
"""
# What the provider says of a template by itself: the last word holds, whichever comes late.
_WORD = """
INSERT INTO gate AS g (scope, key, account_id, stopped_reason, word_at) VALUES ('template', $1, $2, $3, $4)
ON CONFLICT (scope, key) DO UPDATE
SET stopped_reason = excluded.stopped_reason, stopped_until = NULL, word_at = excluded.word_at,
    account_id = excluded.account_id
WHERE g.word_at IS NULL OR g.word_at <= excluded.word_at
RETURNING old.stopped_reason AS before, new.stopped_reason AS after
"""
# Beside a person's hold: whoever lifts that has looked at what the provider said as well.
_STOP = """
INSERT INTO gate AS g (scope, key, account_id, stopped_reason, stopped_until) VALUES ('template', $1, $2, $3, $4)
ON CONFLICT (scope, key) DO UPDATE
SET stopped_reason = excluded.stopped_reason, stopped_until = excluded.stopped_until, account_id = excluded.account_id
WHERE g.stopped_reason IS DISTINCT FROM excluded.stopped_reason OR g.stopped_until < excluded.stopped_until
RETURNING key
"""
_LOCK_ACCOUNT = """
INSERT INTO gate AS g (scope, key, account_id) VALUES ('account', $1, $2)
ON CONFLICT (scope, key) DO UPDATE SET account_id = excluded.account_id
"""
_OPT_OUT = "INSERT INTO opt_out (account_id, recipient_key, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_OPT_IN = f"""
DELETE FROM opt_out WHERE account_id = $1::uuid
  AND recipient_key IN ($2::text, {FORGOTTEN_KEY.format(account="$1::uuid", key="$2::text")})
"""  # noqa: S608  a constant


@dataclass(frozen=True, slots=True)
class Close:
    """A person asked to pause or cancel: `asked_by` is the event, so that each asking is answered."""

    campaign_id: str
    account_id: UUID | None
    run_epoch: int
    cancelled: bool
    asked_by: UUID


@dataclass(frozen=True, slots=True)
class Hold:
    scope: str
    key: str
    account_id: UUID | None
    held: bool
    version: int


@dataclass(frozen=True, slots=True)
class Consent:
    """Opted out or in, or asked to be forgotten, in the order of the events."""

    account_id: UUID
    recipient: str
    kind: Literal["out", "in", "forgotten"]
    at: datetime


class Stop(NamedTuple):
    """The provider refuses the template itself. `until` None = until the provider or a person lets it go on."""

    key: str
    account_id: UUID
    reason: str
    until: datetime | None


class Freed(NamedTuple):
    """Nothing that the provider said stops the template any more."""

    key: str
    account_id: UUID


class Word(NamedTuple):
    """What the provider said of a template at that time; `reason` None = it may be sent."""

    key: str
    account_id: UUID
    reason: str | None
    at: datetime


async def stop_templates(raw: asyncpg.Connection, stops: Iterable[Stop]) -> list[Stop]:
    """Once this is committed no further message of these templates is intended. Those that were not stopped so."""
    ordered = sorted({stop.key: stop for stop in stops}.values())
    return [stop for stop in ordered if await raw.fetchrow(_STOP, *stop) is not None]


async def change(
    raw: asyncpg.Connection,
    closes: Iterable[Close],
    holds: Iterable[Hold],
    consents: Sequence[Consent],
    words: Sequence[Word] = (),
) -> list[Stop | Freed]:
    """All changes of a batch; which templates were stopped or freed by them. Rows are locked sorted by scope and key,
    as intents lock them."""
    accounts = {str(consent.account_id): consent.account_id for consent in consents}
    steps: list[tuple[tuple[str, str], Close | Hold | Word | UUID]] = [
        *((("campaign", close.campaign_id), close) for close in closes),
        *(((hold.scope, hold.key), hold) for hold in holds),
        *((("template", word.key), word) for word in words),
        *((("account", key), account_id) for key, account_id in accounts.items()),
    ]
    changed: list[Stop | Freed] = []
    for (scope, key), step in sorted(steps, key=lambda step: step[0]):
        match step:
            case Close():
                await raw.execute(_CLOSE, key, step.account_id, step.run_epoch, step.cancelled, step.asked_by)
            case Hold():
                row = await raw.fetchrow(_HOLD, scope, key, step.account_id, step.held, step.version)
                if row is not None and row["freed"] and step.account_id is not None:
                    changed.append(Freed(key, step.account_id))
            case Word():
                changed += await _hear(raw, step)
            case _:
                await raw.execute(_LOCK_ACCOUNT, key, step)
    for consent in consents:
        match consent.kind:
            case "out":
                await raw.execute(_OPT_OUT, consent.account_id, consent.recipient, consent.at)
            case "in":
                await raw.execute(_OPT_IN, consent.account_id, consent.recipient)
            case "forgotten":
                await forget(raw, consent.account_id, consent.recipient)
            case _:
                assert_never(consent.kind)
    return changed


async def _hear(raw: asyncpg.Connection, word: Word) -> list[Stop | Freed]:
    row = await raw.fetchrow(_WORD, *word)
    if row is None or row["before"] == row["after"]:
        return []
    if word.reason is None:
        return [Freed(word.key, word.account_id)]
    return [Stop(word.key, word.account_id, word.reason, None)]
