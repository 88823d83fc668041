"""A person who asked to be forgotten: nothing is sent to them any more, and nothing tells who they were.

What the ledger needs to stay exact (attempts, charges) is kept without number, words or the provider's ids, which may
hold the number. The one trace is a hash, by which a campaign's message to them is refused.
"""

from typing import Any
from uuid import UUID

import asyncpg

from contracts.codec import encode
from contracts.ids import Address
from contracts.messages import Content, MessageQueued
from sender.work import read_queued

# The recipient's key as it stands once forgotten; opt_out and quota_seen are asked for both.
FORGOTTEN_KEY = "'forgotten:' || encode(sha256(convert_to({account}::text || ':' || {key}, 'UTF8')), 'hex')"
_FORGOTTEN = FORGOTTEN_KEY.format(account="$1::uuid", key="$2::text")
_NUMBERS = "instance_id IN (SELECT instance_id FROM instance WHERE account_id = $1::uuid)"

_ATTEMPTS = f"""
SELECT dispatch_id, attempt, queued FROM attempt
WHERE account_id = $1::uuid AND recipient_key = $2::text AND {_NUMBERS}
ORDER BY account_id, dispatch_id, attempt FOR UPDATE
"""  # noqa: S608  constants of this module
_EMPTY = """
UPDATE attempt a
SET recipient_key = '', text_hash = NULL, queued = k.queued, address = NULL, detail = '',
    provider_message_id = NULL
FROM unnest($2::uuid[], $3::int[], $4::bytea[]) AS k(dispatch_id, attempt, queued)
WHERE a.account_id = $1 AND a.dispatch_id = k.dispatch_id AND a.attempt = k.attempt
"""
_SUPPRESS = (
    f"""INSERT INTO opt_out (account_id, recipient_key, at) VALUES ($1::uuid, {_FORGOTTEN}, now())
        ON CONFLICT DO NOTHING""",  # noqa: S608
    "DELETE FROM opt_out WHERE account_id = $1::uuid AND recipient_key = $2::text",
    f"DELETE FROM evidence WHERE account_id = $1::uuid AND recipient_key = $2::text AND {_NUMBERS}",  # noqa: S608
    f"DELETE FROM service_window WHERE account_id = $1::uuid AND recipient_key = $2::text AND {_NUMBERS}",  # noqa: S608
    f"""UPDATE quota_seen s SET recipient_key = {_FORGOTTEN}
        WHERE s.account_id = $1::uuid AND s.recipient_key = $2::text
          AND NOT EXISTS (SELECT FROM quota_seen t WHERE t.account_id = s.account_id AND t.scope = s.scope
                          AND t.recipient_key = {_FORGOTTEN})""",  # noqa: S608
)


async def forget(raw: asyncpg.Connection, account_id: UUID, recipient: str) -> int:
    """Under the exclusive lock of the account's gate; the number of attempts that were emptied."""
    rows = await raw.fetch(_ATTEMPTS, account_id, recipient)
    emptied: list[tuple[Any, ...]] = [
        (row["dispatch_id"], row["attempt"], encode(without_person(read_queued(row["queued"])))) for row in rows
    ]
    if emptied:
        await raw.execute(_EMPTY, account_id, *map(list, zip(*emptied, strict=True)))
    for statement in _SUPPRESS:
        await raw.execute(statement, account_id, recipient)
    return len(emptied)


def without_person(message: MessageQueued) -> MessageQueued:
    """What may be told later about the attempt, with none of the fields marked Personal."""
    content = message.content
    return message.model_copy(
        update={
            "address": Address(group=message.address.group),
            "content": Content(
                kind=content.kind,
                mime_type=content.mime_type,
                template_name=content.template_name,
                template_language=content.template_language,
            ),
        }
    )
