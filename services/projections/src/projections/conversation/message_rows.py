"""The SQL of the message table: an upsert for our own sends, one for what came, one for edits, each by primary key.

Each counts the messages by quarter in the same statement and answers the evidence for the dispatches.
"""
# ruff: noqa: S608  the statements are made of constants of this file

from typing import Final

from projections.campaign.volume import count_moved, quarter

# When a message counts as what: nothing until it is known what it is, because a status may come first.
_SENT: Final = "CASE WHEN {side}.sent_at IS NULL AND {side}.direction = 'in' THEN NULL ELSE {side}.at END"
_MOMENTS: Final = {
    "came": "CASE WHEN {side}.sent_at IS NULL AND {side}.direction = 'in' THEN {side}.at END",
    "sent": _SENT,
    "delivered": f"CASE WHEN {_SENT} IS NOT NULL THEN {{side}}.delivered_at END",
    "read": f"CASE WHEN {_SENT} IS NOT NULL THEN {{side}}.read_at END",
    "failed": f"CASE WHEN {_SENT} IS NOT NULL AND {{side}}.delivery < 3 THEN {{side}}.failed_at END",
}
_QUARTERS: Final = [f"{side}_{moment}" for side in ("new", "old") for moment in _MOMENTS]
_COUNTED: Final = count_moved(
    ", ".join(("instance_id", "new_campaign_id", "old_campaign_id", *_QUARTERS)),
    """
        ('instance', instance_id, instance_id, 'received', new_came, old_came),
        ('instance', instance_id, instance_id, 'sent', new_sent, old_sent),
        ('instance', instance_id, instance_id, 'delivered', new_delivered, old_delivered),
        ('instance', instance_id, instance_id, 'read', new_read, old_read),
        ('instance', instance_id, instance_id, 'failed', new_failed, old_failed),
        ('campaign', new_campaign_id, old_campaign_id, 'sent', new_sent, old_sent),
        ('campaign', new_campaign_id, old_campaign_id, 'delivered', new_delivered, old_delivered),
        ('campaign', new_campaign_id, old_campaign_id, 'read', new_read, old_read)""",
)


def _telling(upsert: str) -> str:
    """Answers rows of timeline.Seen: by position."""
    quarters = ",\n        ".join(
        f"{quarter(moment.format(side=side))} AS {side}_{name}"
        for side in ("new", "old")
        for name, moment in _MOMENTS.items()
    )
    return f"""
WITH moved AS (
    {upsert}
    RETURNING new.account_id, new.id, new.instance_id, new.dispatch_id, new.campaign_id, new.recipient_id, new.step,
        new.sent_at, new.delivery, new.delivered_at, new.read_at,
        CASE WHEN new.campaign_id IS NULL THEN new.conversation_id END AS conversation_id,
        new.campaign_id AS new_campaign_id, old.campaign_id AS old_campaign_id,
        {quarters}
), {_COUNTED}
SELECT account_id, dispatch_id, campaign_id, recipient_id, step, id, sent_at, delivery, delivered_at, read_at,
    conversation_id, EXISTS (SELECT FROM counted WHERE value = 0)
FROM moved
"""


_SEND: Final = (
    "send_event", "sent_chat_id", "dispatch_id", "campaign_id", "recipient_id", "contact_id", "step", "attempt",
    "phone", "content", "sent_at",
)  # fmt: skip
_FAILURE: Final = ("failed_at", "failure", "code", "detail")
# The description with the smallest event id stays.
_FIRST_SEND: Final = "(excluded.send_event < m.send_event OR m.send_event IS NULL AND excluded.send_event IS NOT NULL)"
_FIRST_FAILURE: Final = """(excluded.failed_at IS NOT NULL AND (m.failed_at IS NULL
        OR (excluded.failed_at, excluded.failure, excluded.code, excluded.detail)
            < (m.failed_at, m.failure, m.code, m.detail)))"""


def _take(columns: tuple[str, ...], condition: str) -> str:
    return ", ".join(
        f"{column} = CASE WHEN {condition} THEN excluded.{column} ELSE m.{column} END" for column in columns
    )


# least and greatest ignore NULL. What tells nothing new is not written.
OUTBOUND: Final = _telling(f"""
    INSERT INTO message AS m (account_id, id, instance_id, provider_message_id, {", ".join(_SEND)}, delivery,
        delivered_at, read_at, failed_at, failure, code, detail, billable, category)
    SELECT * FROM unnest($1::projections.given_outbound[])
    ON CONFLICT (account_id, id) DO UPDATE SET
        {_take(_SEND, _FIRST_SEND)},
        delivery = greatest(m.delivery, excluded.delivery),
        delivered_at = least(m.delivered_at, excluded.delivered_at),
        read_at = least(m.read_at, excluded.read_at),
        {_take(_FAILURE, _FIRST_FAILURE)},
        billable = CASE WHEN m.billable IS NULL THEN excluded.billable ELSE m.billable OR excluded.billable IS TRUE END,
        category = greatest(m.category, excluded.category)
    WHERE {_FIRST_SEND} OR m.delivery < excluded.delivery
        OR m.delivered_at IS DISTINCT FROM least(m.delivered_at, excluded.delivered_at)
        OR m.read_at IS DISTINCT FROM least(m.read_at, excluded.read_at)
        OR (m.billable IS NOT TRUE AND m.billable IS DISTINCT FROM excluded.billable AND excluded.billable IS NOT NULL)
        OR m.category IS DISTINCT FROM greatest(m.category, excluded.category)
        OR {_FIRST_FAILURE}""")

INBOUND: Final = _telling("""
    INSERT INTO message AS m (account_id, id, instance_id, provider_message_id, receive_event, received_chat_id,
        direction, origin, type, text, media, reply_to, sender, profile_name, details, message_at, received_at,
        delivery)
    SELECT * FROM unnest($1::projections.given_inbound[])
    ON CONFLICT (account_id, id) DO UPDATE SET
        receive_event = excluded.receive_event, received_chat_id = excluded.received_chat_id,
        direction = excluded.direction, origin = excluded.origin, type = excluded.type, text = excluded.text,
        media = excluded.media, reply_to = excluded.reply_to, sender = excluded.sender,
        profile_name = excluded.profile_name, details = excluded.details, message_at = excluded.message_at,
        received_at = excluded.received_at, delivery = greatest(m.delivery, excluded.delivery)
    WHERE m.receive_event IS NULL OR excluded.receive_event < m.receive_event""")

EDITED: Final = """
INSERT INTO message AS m (account_id, id, instance_id, provider_message_id, edited_at, edited_text, deleted_at)
SELECT * FROM unnest($1::projections.given_edit[])
ON CONFLICT (account_id, id) DO UPDATE SET
    edited_at = greatest(m.edited_at, excluded.edited_at),
    edited_text = CASE
        WHEN m.edited_at IS NULL OR excluded.edited_at > m.edited_at THEN coalesce(excluded.edited_text, m.edited_text)
        WHEN excluded.edited_at = m.edited_at THEN greatest(m.edited_text, excluded.edited_text)
        ELSE m.edited_text END,
    deleted_at = least(m.deleted_at, excluded.deleted_at)
"""
