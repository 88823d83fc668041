"""The stable views have at least the columns that analysts already use, and each can be read in both generations."""

import asyncpg
import pytest

from projection_histories import draw_history
from projection_parts import apply, enter

pytestmark = pytest.mark.postgres

WITH_IDS = "account_id id created_at updated_at"
COLUMNS = {
    "campaigns": f"{WITH_IDS} user_id instance_id status scheduled_at started_at completed_at total_recipients "
    "total_sent sent_count failed_count google_sheets_url sheet_id_column",
    "campaign_messages": f"{WITH_IDS} user_id campaign_id content_type content media_url order_index",
    "campaign_contacts": f"{WITH_IDS} user_id instance_id campaign_id external_id phone_number name custom_fields "
    "status state sent_at error_message",
    "message_queue": f"{WITH_IDS} user_id instance_id campaign_id contact_id phone_number name content media_url "
    "status state scheduled_at sent_at retry_count error_message",
    "campaign_analytics": "account_id campaign_id date messages_sent messages_failed messages_delivered messages_read",
    "campaign_statistics": "account_id campaign_id total_contacts pending_count queued sent_count delivered read "
    "replied failed_count failed_by_reason skipped skipped_by_reason expired cancelled unresolved delivery_rate",
    "api_configurations": f"{WITH_IDS} user_id name provider phone_number_id is_active",
    "whatsapp_instances": f"{WITH_IDS} user_id max_users current_users status messaging_tier connection_status qr_code",
    "contacts": f"{WITH_IDS} instance_id name phone_number external_id tags custom_fields opted_out",
    "conversations": f"{WITH_IDS} instance_id user_id remote_jid last_message_preview delivery_status "
    "external_inbox_id crypto_context unread_count",
    "messages": f"{WITH_IDS} raw_payload message_payload message_timestamp event_datetime instance_id conversation_id",
    "groups": f"{WITH_IDS} instance_id name remote_jid",
    "products": f"{WITH_IDS} name",
    "users": f"{WITH_IDS} email name role",
    "accounts": f"{WITH_IDS} name",
    "attendance_daily": "account_id date conversations_resolved first_response_mean_s",
    "instance_daily_volume": "account_id instance_id date messages_sent messages_received",
    "queue_statistics": "account_id instance_id pending processing dead_letters unresolved",
    "possibly_twice": "account_id id campaign_id recipient_id instance_id phone_number name order_index state attempt",
    "instance_window": "account_id instance_id messages_sent",
    "sending_configurations": f"{WITH_IDS} user_id campaign_id min_delay_seconds max_delay_seconds "
    "pause_after_messages pause_duration_seconds max_retries daily_limit allowed_hours_start allowed_hours_end",
    "whatsapp_campaigns": f"{WITH_IDS} status",
    "whatsapp_campaign_recipients": f"{WITH_IDS} status campaign_id",
    "instances": f"{WITH_IDS} external_id webhook_url server_url last_event_at company_id",
    "evolution_instances": f"{WITH_IDS} external_id webhook_url server_url last_event_at company_id",
    "evolution_conversations": f"{WITH_IDS} remote_jid",
    "evolution_messages": f"{WITH_IDS} raw_payload",
}
SECRETS = ("credentials", "webhook_key_hashes", "token", "apikey")


@pytest.mark.parametrize("view", COLUMNS)
async def test_a_view_keeps_its_columns(worker: asyncpg.Connection, view: str) -> None:
    query = (
        "SELECT array_agg(column_name::text) FROM information_schema.columns"
        " WHERE table_schema = 'projections' AND table_name = $1"
    )
    columns = set(await worker.fetchval(query, view) or ())
    assert set(COLUMNS[view].split()) <= columns
    assert not columns & set(SECRETS)


async def test_every_view_can_be_read(worker: asyncpg.Connection) -> None:
    transaction = worker.transaction()
    await transaction.start()
    try:
        await enter(worker)
        for seed in range(4):
            await apply(worker, draw_history(seed))
        rows = {view: len(await worker.fetch(f"SELECT * FROM {view}")) for view in COLUMNS}
    finally:
        await transaction.rollback()
    # Nothing of these histories was sent within the last 24 hours.
    assert [view for view, count in rows.items() if not count] == ["instance_window"]


async def test_newer_states_map_onto_the_old_status(worker: asyncpg.Connection) -> None:
    transaction = worker.transaction()
    await transaction.start()
    try:
        await enter(worker)
        for seed in range(12):
            await apply(worker, draw_history(seed))
        pairs = await worker.fetch("SELECT DISTINCT state, status FROM message_queue")
        known = await worker.fetch("SELECT DISTINCT state, status FROM campaign_contacts")
    finally:
        await transaction.rollback()
    old = {
        "pending": "pending", "released": "sending", "accepted": "sent", "failed": "failed", "unresolved": "failed",
        "skipped": "cancelled", "expired": "cancelled", "cancelled": "cancelled",
    }  # fmt: skip
    assert {(state, status) for state, status in pairs} <= set(old.items())
    assert {(state, status) for state, status in known} <= {*old.items(), ("pending", "sending")}
    assert len(known) >= 6
