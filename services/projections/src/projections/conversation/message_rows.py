"""The SQL of the message table: four upserts, one per side, each by primary key, each telling OLD and NEW."""
# ruff: noqa: S608  the statements are made of constants of this file

from typing import Final

# Read by position in volume.py, dispatches.py: see timeline.MessageChange.
_RETURNING: Final = """
RETURNING new.account_id, new.id, new.instance_id, new.dispatch_id, new.campaign_id, new.recipient_id, new.step,
    new.sent_at, new.delivery, new.delivered_at, new.read_at, new.failed_at, new.at, new.direction, new.conversation_id,
    old.instance_id, old.campaign_id, old.sent_at, old.delivery, old.delivered_at, old.read_at, old.failed_at, old.at,
    old.direction
"""

# The description with the smallest event id stays; our own send is at least accepted.
SENT: Final = (
    """
INSERT INTO message AS m (account_id, id, instance_id, provider_message_id, send_event, sent_chat_id, dispatch_id,
    campaign_id, recipient_id, contact_id, step, attempt, phone, content, sent_at, delivery)
SELECT *, 1 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::uuid[],
    $8::uuid[], $9::uuid[], $10::uuid[], $11::int[], $12::int[], $13::text[], $14::jsonb[], $15::timestamptz[])
ON CONFLICT (account_id, id) DO UPDATE SET
    send_event = excluded.send_event, sent_chat_id = excluded.sent_chat_id, dispatch_id = excluded.dispatch_id,
    campaign_id = excluded.campaign_id, recipient_id = excluded.recipient_id, contact_id = excluded.contact_id,
    step = excluded.step, attempt = excluded.attempt, phone = excluded.phone, content = excluded.content,
    sent_at = excluded.sent_at, delivery = greatest(m.delivery, excluded.delivery)
WHERE m.send_event IS NULL OR excluded.send_event < m.send_event
"""
    + _RETURNING
)

RECEIVED: Final = (
    """
INSERT INTO message AS m (account_id, id, instance_id, provider_message_id, receive_event, received_chat_id, direction,
    origin, type, text, media, reply_to, sender, profile_name, details, message_at, received_at, delivery)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::jsonb[], $12::text[], $13::jsonb[], $14::text[], $15::jsonb[], $16::timestamptz[],
    $17::timestamptz[], $18::int[])
ON CONFLICT (account_id, id) DO UPDATE SET
    receive_event = excluded.receive_event, received_chat_id = excluded.received_chat_id,
    direction = excluded.direction, origin = excluded.origin, type = excluded.type, text = excluded.text,
    media = excluded.media, reply_to = excluded.reply_to, sender = excluded.sender,
    profile_name = excluded.profile_name, details = excluded.details, message_at = excluded.message_at,
    received_at = excluded.received_at, delivery = greatest(m.delivery, excluded.delivery)
WHERE m.receive_event IS NULL OR excluded.receive_event < m.receive_event
"""
    + _RETURNING
)

# least and greatest ignore NULL. A repeated status changes nothing and is not written.
STATUS: Final = (
    """
INSERT INTO message AS m (account_id, id, instance_id, provider_message_id, delivery, delivered_at, read_at, failed_at,
    failure, code, detail, billable, category)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::int[], $6::timestamptz[], $7::timestamptz[],
    $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::bool[], $13::text[])
ON CONFLICT (account_id, id) DO UPDATE SET
    delivery = greatest(m.delivery, excluded.delivery),
    delivered_at = least(m.delivered_at, excluded.delivered_at),
    read_at = least(m.read_at, excluded.read_at),
    (failed_at, failure, code, detail) = (SELECT f.failed_at, f.failure, f.code, f.detail FROM (VALUES
        (m.failed_at, m.failure, m.code, m.detail),
        (excluded.failed_at, excluded.failure, excluded.code, excluded.detail)
    ) f (failed_at, failure, code, detail) ORDER BY f.failed_at, f.failure, f.code, f.detail LIMIT 1),
    billable = CASE WHEN m.billable IS NULL THEN excluded.billable ELSE m.billable OR excluded.billable IS TRUE END,
    category = greatest(m.category, excluded.category)
WHERE m.delivery < excluded.delivery
    OR m.delivered_at IS DISTINCT FROM least(m.delivered_at, excluded.delivered_at)
    OR m.read_at IS DISTINCT FROM least(m.read_at, excluded.read_at)
    OR (m.billable IS NOT TRUE AND m.billable IS DISTINCT FROM excluded.billable AND excluded.billable IS NOT NULL)
    OR m.category IS DISTINCT FROM greatest(m.category, excluded.category)
    OR (excluded.failed_at IS NOT NULL AND (m.failed_at IS NULL
        OR (excluded.failed_at, excluded.failure, excluded.code, excluded.detail)
            < (m.failed_at, m.failure, m.code, m.detail)))
"""
    + _RETURNING
)

EDITED: Final = """
INSERT INTO message AS m (account_id, id, instance_id, provider_message_id, edited_at, edited_text, deleted_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::text[], $7::timestamptz[])
ON CONFLICT (account_id, id) DO UPDATE SET
    edited_at = greatest(m.edited_at, excluded.edited_at),
    edited_text = CASE
        WHEN m.edited_at IS NULL OR excluded.edited_at > m.edited_at THEN coalesce(excluded.edited_text, m.edited_text)
        WHEN excluded.edited_at = m.edited_at THEN greatest(m.edited_text, excluded.edited_text)
        ELSE m.edited_text END,
    deleted_at = least(m.deleted_at, excluded.deleted_at)
RETURNING new.account_id, new.conversation_id
"""
