"""The stable views: conversations, messages, contacts, instances."""
# ruff: noqa: S608  the statements are made of constants of this file

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_JID = """CASE WHEN {t}.group_id IS NOT NULL THEN
        CASE WHEN {t}.group_id LIKE '%@%' THEN {t}.group_id ELSE {t}.group_id || '@g.us' END
    WHEN {t}.phone IS NOT NULL THEN {t}.phone || '@s.whatsapp.net'
    WHEN {t}.lid IS NOT NULL THEN split_part({t}.lid, '@', 1) || '@lid' ELSE {t}.bsuid END"""
_TEXT = (
    "CASE WHEN {m}.deleted_at IS NOT NULL THEN '' ELSE"
    " coalesce({m}.edited_text, nullif({m}.text, ''), {m}.content ->> 'text', '') END"
)
_DELIVERY = """CASE WHEN {m}.failed_at IS NOT NULL AND {m}.delivery < 3 THEN 'failed'
    WHEN {m}.delivery = 1 THEN 'accepted' WHEN {m}.delivery = 2 THEN 'sent' WHEN {m}.delivery = 3 THEN 'delivered'
    WHEN {m}.delivery = 4 THEN 'read' WHEN {m}.delivery = 5 THEN 'played' END"""
_OUT = "({m}.send_event IS NOT NULL OR {m}.direction = 'out')"
_BREAKER = "CASE WHEN i.banned_at > i.updated_at THEN 'banned' ELSE i.status END"

VIEWS = {
    "conversations": f"""
        SELECT c.account_id, c.id, c.account_id AS company_id, c.instance_id, c.contact_id,
            coalesce(p.name, c.profile_name, c.phone, '') AS contact_name, c.phone AS phone_number, c.profile_name,
            c.group_id IS NOT NULL AS is_group, {_JID.format(t="c")} AS remote_jid,
            left({_TEXT.format(m="l")}, 120) AS last_message_preview, l.type AS last_message_type,
            CASE WHEN {_OUT.format(m="l")} THEN 'out' ELSE 'in' END AS last_message_direction,
            c.last_message_id, c.last_at AS last_message_at, c.last_in_at AS last_inbound_at,
            {_DELIVERY.format(m="o")} AS delivery_status,
            (SELECT count(*) FROM (SELECT FROM message u
                WHERE u.account_id = c.account_id AND u.conversation_id = c.id AND u.direction = 'in'
                    AND u.at > coalesce(d.read_at, '-infinity') AND c.last_in_at > coalesce(d.read_at, '-infinity')
                LIMIT 1000) u)::int AS unread_count,
            d.assignee_id, d.assignee_id AS user_id, coalesce(d.state, 'open') AS state,
            coalesce(d.state, 'open') AS status, '[]'::jsonb AS labels, NULL::text AS external_inbox_id,
            NULL::text AS external_conversation_id, NULL::jsonb AS crypto_context, c.first_at AS created_at,
            greatest(c.last_at, d.updated_at) AS updated_at
        FROM conversation c
        LEFT JOIN conversation_desk d ON d.account_id = c.account_id AND d.id = c.id
        LEFT JOIN message l ON l.account_id = c.account_id AND l.id = c.last_message_id
        LEFT JOIN message o ON o.account_id = c.account_id AND o.id = c.last_out_id
        LEFT JOIN person p ON p.account_id = c.account_id AND p.id = c.contact_id AND p.name <> ''""",
    "messages": f"""
        SELECT m.account_id, m.id, m.account_id AS company_id, m.conversation_id, m.instance_id,
            coalesce(m.contact_id, c.contact_id) AS contact_id, m.campaign_id, m.dispatch_id, m.recipient_id,
            m.provider_message_id, m.provider_message_id AS external_id,
            CASE WHEN {_OUT.format(m="m")} THEN 'out' ELSE 'in' END AS direction, {_OUT.format(m="m")} AS from_me,
            CASE WHEN m.campaign_id IS NOT NULL THEN 'campaign' ELSE coalesce(m.origin, 'api') END AS origin,
            coalesce(m.type, m.content ->> 'kind') AS type, {_TEXT.format(m="m")} AS text, m.media,
            coalesce(m.media ->> 'url', m.content ->> 'media_url') AS media_url, m.reply_to,
            {_JID.format(t="c")} AS remote_jid, {_DELIVERY.format(m="m")} AS status,
            {_DELIVERY.format(m="m")} AS delivery_status, m.details AS raw_payload, m.content AS message_payload,
            extract(epoch FROM m.at)::bigint AS message_timestamp, m.at AS event_datetime, m.sent_at, m.delivered_at,
            m.read_at, m.failed_at, nullif(concat_ws(': ', nullif(m.failure, ''), nullif(m.code, ''),
                nullif(m.detail, '')), '') AS error_message, m.billable, m.category, m.edited_at, m.deleted_at,
            m.at AS created_at, greatest(m.at, m.delivered_at, m.read_at, m.failed_at, m.edited_at, m.deleted_at)
                AS updated_at
        FROM message m
        LEFT JOIN conversation c ON c.account_id = m.account_id AND c.id = m.conversation_id
        WHERE m.at IS NOT NULL
        UNION ALL
        SELECT a.account_id, a.dispatch_id, a.account_id, a.conversation_id, a.instance_id, a.contact_id, NULL,
            a.dispatch_id, NULL, NULL, NULL, 'out', true, 'api', coalesce(a.content ->> 'kind', 'text'),
            coalesce(a.content ->> 'text', ''), NULL, a.content ->> 'media_url', a.reply_to, {_JID.format(t="c")},
            coalesce(d.state, 'pending'), coalesce(d.state, 'pending'), NULL, a.content,
            extract(epoch FROM a.written_at)::bigint, a.written_at, NULL, NULL, NULL, NULL, coalesce(d.error, d.reason),
            NULL, NULL, NULL, NULL, a.written_at, greatest(a.written_at, d.changed_at)
        FROM answer a
        LEFT JOIN dispatch d ON d.account_id = a.account_id AND d.id = a.dispatch_id
        LEFT JOIN conversation c ON c.account_id = a.account_id AND c.id = a.conversation_id
        WHERE d.message_id IS NULL""",
    "contacts": """
        SELECT p.account_id, p.id, p.account_id AS company_id, p.name, p.phone AS phone_number, p.lid, p.bsuid,
            p.group_id, p.external_id, p.source, p.tags, p.funnel_stage, p.custom_fields, p.aliases, p.contact_ids,
            p.opted_out, p.opt_out_reason, a.instance_id, NULL::uuid AS user_id, p.created_at, p.updated_at
        FROM person p
        LEFT JOIN LATERAL (SELECT l.instance_id FROM allocation l
            WHERE l.account_id = p.account_id AND l.id = ANY (p.contact_ids)
            ORDER BY l.allocated_at DESC, l.id LIMIT 1) a ON true""",
    "groups": f"""
        SELECT c.account_id, c.id, c.id AS conversation_id, c.instance_id, NULL::uuid AS user_id, c.group_id,
            {_JID.format(t="c")} AS remote_jid, c.profile_name AS name, c.last_at AS last_message_at,
            c.first_at AS created_at, c.last_at AS updated_at
        FROM conversation c WHERE c.group_id IS NOT NULL""",
    "whatsapp_instances": f"""
        SELECT i.account_id, i.id, i.id AS instance_id, i.account_id AS company_id, i.owner_id, i.owner_id AS user_id,
            i.name, i.provider, i.server_url, coalesce(i.connected_phone, i.phone_number) AS phone_number,
            i.phone_number_id, i.gateway_instance, i.gateway_instance AS instance_name,
            i.gateway_instance AS external_id,
            i.portfolio_id, i.webhook_url, {_BREAKER} AS status, i.connection AS connection_status,
            i.connection_reason, i.qr_code, i.pairing_code, i.is_active, i.is_default, i.max_users,
            (SELECT count(*) FROM allocation a WHERE a.account_id = i.account_id AND a.instance_id = i.id)::int
                AS current_users,
            coalesce(i.measured_tier, i.tier) AS messaging_tier, i.quality, i.limits,
            (i.limits ->> 'target_per_second')::float AS configured_mps,
            coalesce(i.throttled_mps, i.measured_mps, (i.limits ->> 'messages_per_second')::float) AS measured_mps,
            coalesce(i.measured_unique_per_24h, (i.limits ->> 'unique_per_24h')::int) AS unique_per_24h,
            i.breaker, i.breaker_reason, i.breaker_until, i.banned_at, i.banned_reason, i.last_event_at,
            i.created_at, i.updated_at
        FROM instance i WHERE NOT i.deleted""",
    "api_configurations": """
        SELECT i.account_id, i.id, i.owner_id, i.owner_id AS user_id, i.id AS instance_id, i.name, i.provider,
            i.server_url, i.phone_number, i.phone_number_id, i.gateway_instance AS instance_name, i.webhook_url,
            i.status, i.is_active, i.is_default, i.max_users, i.tier AS messaging_tier, i.limits, i.created_at,
            i.updated_at
        FROM instance i WHERE NOT i.deleted""",
    "instance_daily_volume": """
        SELECT v.account_id, v.scope_id AS instance_id,
            (v.quarter AT TIME ZONE 'America/Sao_Paulo')::date AS date,
            coalesce(sum(v.value) FILTER (WHERE v.measure = 'sent'), 0)::bigint AS messages_sent,
            coalesce(sum(v.value) FILTER (WHERE v.measure = 'received'), 0)::bigint AS messages_received,
            coalesce(sum(v.value) FILTER (WHERE v.measure = 'delivered'), 0)::bigint AS messages_delivered,
            coalesce(sum(v.value) FILTER (WHERE v.measure = 'read'), 0)::bigint AS messages_read,
            coalesce(sum(v.value) FILTER (WHERE v.measure = 'failed'), 0)::bigint AS messages_failed
        FROM volume v WHERE v.scope = 'instance' GROUP BY 1, 2, 3""",
    "instances": "SELECT * FROM whatsapp_instances",
    "evolution_instances": "SELECT * FROM whatsapp_instances WHERE provider IN ('evolution_web', 'evolution_cloud')",
    "evolution_conversations": """
        SELECT c.* FROM conversations c JOIN instance i ON i.account_id = c.account_id AND i.id = c.instance_id
        WHERE i.provider IN ('evolution_web', 'evolution_cloud')""",
    "evolution_messages": """
        SELECT m.* FROM messages m JOIN instance i ON i.account_id = m.account_id AND i.id = m.instance_id
        WHERE i.provider IN ('evolution_web', 'evolution_cloud')""",
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
