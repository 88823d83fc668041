"""The stable views: campaigns and what belongs to them. `docs/read-models.md` lists them with their columns."""
# ruff: noqa: S608  the statements are made of constants of this file

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The states of today, as earlier systems' clients know them.
_OLD_STATUS = """CASE
    WHEN {state} IN ('pending') THEN 'pending' WHEN {state} = 'released' THEN 'sending'
    WHEN {state} = 'accepted' THEN 'sent' WHEN {state} IN ('failed', 'unresolved') THEN 'failed'
    ELSE 'cancelled' END"""
_DELIVERY = """CASE {delivery} WHEN 1 THEN 'accepted' WHEN 2 THEN 'sent' WHEN 3 THEN 'delivered' WHEN 4 THEN 'read'
    WHEN 5 THEN 'played' END"""
_RECIPIENT_STATE = "(CASE WHEN r.queued THEN 'released' ELSE r.state END)"
_QUEUE_STATE = "CASE WHEN d.state = 'failed' AND d.delivery >= 3 THEN 'accepted' ELSE coalesce(d.state, 'pending') END"


def _sum(measure: str) -> str:
    return f"coalesce(sum(k.value) FILTER (WHERE k.measure = '{measure}'), 0)::bigint"


def _reasons(measure: str) -> str:
    return (
        f"coalesce(jsonb_object_agg(coalesce(nullif(k.reason, ''), 'unknown'), k.value)"
        f" FILTER (WHERE k.measure = '{measure}'), '{{}}')"
    )


def _rate(part: str, whole: str) -> str:
    return f"CASE WHEN {whole} = 0 THEN 0 ELSE round({part} * 100.0 / {whole}, 2) END"


_DISPATCHES = ", ".join(
    f"{_sum('dispatches_' + name)} AS dispatches_{name}"
    for name in ("pending", "queued", "sent", "delivered", "read", "failed", "skipped", "expired", "cancelled")
)
VIEWS = {
    "campaign_statistics": f"""
        SELECT s.*, s.delivery_rate AS sent_rate,
            {_rate("s.delivered", "s.sent_count")} AS delivered_rate,
            {_rate("s.read", "s.sent_count")} AS read_rate, {_rate("s.replied", "s.sent_count")} AS replied_rate
        FROM (SELECT t.*, {_rate("t.sent_count", "t.total_contacts")} AS delivery_rate FROM (
            SELECT c.account_id, c.id AS campaign_id, {_sum("total")} AS total_contacts,
                {_sum("pending")} AS pending_count, {_sum("queued")} AS queued, {_sum("sent")} AS sent_count,
                {_sum("delivered")} AS delivered, {_sum("read")} AS read, {_sum("replied")} AS replied,
                {_sum("failed")} AS failed_count, {_reasons("failed")} AS failed_by_reason,
                {_sum("skipped")} AS skipped, {_reasons("skipped")} AS skipped_by_reason,
                {_sum("expired")} AS expired, {_sum("cancelled")} AS cancelled, {_sum("unresolved")} AS unresolved,
                {_DISPATCHES}, {_sum("dispatches_unresolved")} AS dispatches_unresolved
            FROM campaign c
            LEFT JOIN campaign_counter k ON k.account_id = c.account_id AND k.campaign_id = c.id
            GROUP BY c.account_id, c.id) t) s""",
    "campaigns": """
        SELECT c.account_id, c.id, c.account_id AS company_id, c.name, c.status, c.owner_id, c.owner_id AS user_id,
            (c.definition #>> '{pool,0}')::uuid AS instance_id, (c.definition #>> '{pool,0}')::uuid AS api_config_id,
            coalesce(c.definition -> 'pool', '[]') AS instance_pool, c.definition -> 'steps' AS steps,
            c.definition -> 'policy' AS policy, c.definition ->> 'google_sheets_url' AS google_sheets_url,
            coalesce(c.definition ->> 'sheet_id_column', 'id') AS sheet_id_column,
            c.scheduled_at, c.started_at, c.completed_at, k.total AS total_recipients, k.sent AS total_sent,
            k.sent AS sent_count, k.failed AS failed_count, k.pending AS pending_count, c.run_epoch, c.fail_reason,
            c.fail_detail, c.created_by, c.created_at, c.updated_at
        FROM campaign c
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(k.value) FILTER (WHERE k.measure = 'total'), 0)::bigint AS total,
                coalesce(sum(k.value) FILTER (WHERE k.measure = 'sent'), 0)::bigint AS sent,
                coalesce(sum(k.value) FILTER (WHERE k.measure = 'failed'), 0)::bigint AS failed,
                coalesce(sum(k.value) FILTER (WHERE k.measure = 'pending'), 0)::bigint AS pending
            FROM campaign_counter k WHERE k.account_id = c.account_id AND k.campaign_id = c.id
        ) k
        WHERE NOT c.deleted""",
    "campaign_messages": """
        SELECT c.account_id, md5(c.id::text || ':' || (s.place - 1))::uuid AS id, c.id AS campaign_id,
            (s.place - 1)::int AS order_index, s.step ->> 'kind' AS content_type, s.step ->> 'content' AS content,
            s.step ->> 'media_url' AS media_url, s.step ->> 'template_name' AS template_name, c.owner_id AS user_id,
            (c.definition #>> '{pool,0}')::uuid AS instance_id, c.created_at, c.updated_at
        FROM campaign c
        CROSS JOIN LATERAL jsonb_array_elements(c.definition -> 'steps') WITH ORDINALITY s (step, place)
        WHERE NOT c.deleted""",
    "sending_configurations": """
        SELECT c.account_id, c.id, c.id AS campaign_id, c.owner_id AS user_id,
            (c.definition #>> '{pool,0}')::uuid AS instance_id,
            (p.policy ->> 'min_delay_s')::numeric AS min_delay_seconds,
            (p.policy ->> 'max_delay_s')::numeric AS max_delay_seconds,
            (p.policy ->> 'pause_after_messages')::int AS pause_after_messages,
            (p.policy ->> 'pause_duration_s')::numeric AS pause_duration_seconds,
            (p.policy ->> 'max_retries')::int AS max_retries, (p.policy ->> 'daily_limit')::int AS daily_limit,
            (p.policy ->> 'allowed_hours_start')::time AS allowed_hours_start,
            (p.policy ->> 'allowed_hours_end')::time AS allowed_hours_end, p.policy ->> 'time_zone' AS time_zone,
            c.created_at, c.updated_at
        FROM campaign c CROSS JOIN LATERAL (SELECT c.definition -> 'policy' AS policy) p
        WHERE NOT c.deleted""",
    "campaign_contacts": f"""
        SELECT r.account_id, r.id, r.campaign_id, r.contact_id, r.external_id, r.phone AS phone_number, r.name,
            r.custom_fields, {_OLD_STATUS.format(state=_RECIPIENT_STATE)} AS status,
            r.state, r.reason, {_DELIVERY.format(delivery="r.delivery")} AS delivery_status, r.sent_at, r.replied_at,
            coalesce(r.error, CASE WHEN r.state IN ('failed', 'unresolved') THEN coalesce(r.reason, r.state) END)
                AS error_message,
            c.owner_id AS user_id, (c.definition #>> '{{pool,0}}')::uuid AS instance_id, r.added_at AS created_at,
            greatest(r.added_at, r.changed_at, r.sent_at, r.replied_at) AS updated_at
        FROM recipient r LEFT JOIN campaign c ON c.account_id = r.account_id AND c.id = r.campaign_id
        WHERE r.source_event IS NOT NULL""",
    # Final rows leave the queue after 7 days: here by the reader's clock, so that the tables stay a fold of the log.
    "message_queue": f"""
        SELECT d.account_id, d.id, c.id AS campaign_id, d.recipient_id,
            coalesce(r.contact_id, a.contact_id) AS contact_id,
            d.instance_id, c.owner_id AS user_id, r.phone AS phone_number, r.name, d.step AS order_index,
            coalesce(m.content ->> 'kind', a.content ->> 'kind', c.definition -> 'steps' -> d.step ->> 'kind')
                AS content_type,
            coalesce(m.content ->> 'text', a.content ->> 'text', c.definition -> 'steps' -> d.step ->> 'content')
                AS content,
            coalesce(m.content ->> 'media_url', a.content ->> 'media_url',
                c.definition -> 'steps' -> d.step ->> 'media_url') AS media_url,
            {_OLD_STATUS.format(state="q.state")} AS status, q.state, d.reason, d.due_at AS scheduled_at, d.sent_at,
            {_DELIVERY.format(delivery="d.delivery")} AS delivery_status, greatest(d.attempt - 1, 0) AS retry_count,
            d.attempt, d.message_id,
            CASE WHEN q.state IN ('failed', 'unresolved') THEN coalesce(d.error, d.reason, q.state) END
                AS error_message,
            coalesce(r.added_at, a.written_at, d.changed_at) AS created_at,
            greatest(d.changed_at, d.sent_at, d.delivered_at, d.read_at) AS updated_at
        FROM dispatch d
        CROSS JOIN LATERAL (SELECT {_QUEUE_STATE} AS state) q
        LEFT JOIN recipient r ON r.account_id = d.account_id AND r.id = d.recipient_id AND r.source_event IS NOT NULL
        LEFT JOIN campaign c ON c.account_id = d.account_id AND c.id = d.subject_id
        LEFT JOIN message m ON m.account_id = d.account_id AND m.id = d.message_id
        LEFT JOIN answer a ON a.account_id = d.account_id AND a.dispatch_id = d.id
        WHERE q.state IN ('pending', 'released') OR d.changed_at > now() - interval '7 days'""",
    "campaign_analytics": """
        SELECT v.account_id, v.scope_id AS campaign_id, d.date,
            coalesce(sum(v.value) FILTER (WHERE v.measure = 'sent'), 0)::bigint AS messages_sent,
            coalesce(sum(v.value) FILTER (WHERE v.measure = 'failed'), 0)::bigint AS messages_failed,
            coalesce(sum(v.value) FILTER (WHERE v.measure = 'delivered'), 0)::bigint AS messages_delivered,
            coalesce(sum(v.value) FILTER (WHERE v.measure = 'read'), 0)::bigint AS messages_read,
            c.owner_id AS user_id, min(v.quarter) AS created_at, max(v.quarter) AS updated_at
        FROM volume v
        JOIN campaign c ON c.account_id = v.account_id AND c.id = v.scope_id
        CROSS JOIN LATERAL (SELECT (v.quarter AT TIME ZONE
            coalesce(c.definition #>> '{policy,time_zone}', 'America/Sao_Paulo'))::date AS date) d
        WHERE v.scope = 'campaign' AND NOT c.deleted
        GROUP BY v.account_id, v.scope_id, d.date, c.owner_id""",
    "whatsapp_campaigns": "SELECT * FROM campaigns",
    "whatsapp_campaign_recipients": "SELECT * FROM campaign_contacts",
}


def upgrade() -> None:
    for generation in ("projections_g1", "projections_g2"):
        op.execute(f"SET LOCAL search_path TO {generation}")
        for name, query in VIEWS.items():
            op.execute(f"CREATE VIEW {name} WITH (security_invoker = true) AS {query}")
        op.execute(
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {generation} TO campaign_api_web, analyst, projections_worker"
        )
    op.execute("SET LOCAL search_path TO projections")
    op.execute("SELECT show_generation('projections_g1')")
