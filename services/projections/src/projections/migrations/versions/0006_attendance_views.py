"""The stable views: attendance by day and by agent, accounts, users, products."""
# ruff: noqa: S608  the statements are made of constants of this file

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# A turn: what a person wrote until somebody answered. Campaign messages are no answers.
_TURNS = """
    WITH talk AS (
        SELECT m.account_id, m.conversation_id, m.id, m.at, a.written_by,
            (m.send_event IS NOT NULL OR m.direction = 'out') AS answer
        FROM message m
        LEFT JOIN answer a ON a.account_id = m.account_id AND a.dispatch_id = m.dispatch_id
        WHERE m.campaign_id IS NULL AND m.at IS NOT NULL AND m.conversation_id IS NOT NULL
    ), numbered AS (
        SELECT t.*, count(*) FILTER (WHERE t.answer) OVER (PARTITION BY t.account_id, t.conversation_id
            ORDER BY t.at, t.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS turn
        FROM talk t
    )
    SELECT n.account_id, n.conversation_id, n.turn, min(n.at) FILTER (WHERE NOT n.answer) AS asked_at,
        min(n.at) FILTER (WHERE n.answer) AS answered_at,
        min(n.written_by::text) FILTER (WHERE n.answer)::uuid AS answered_by,
        count(*) FILTER (WHERE NOT n.answer) AS received, count(*) FILTER (WHERE n.answer) AS sent
    FROM numbered n GROUP BY n.account_id, n.conversation_id, n.turn"""
# In the account's time zone.
_DAY = """({time} AT TIME ZONE coalesce(
    (SELECT a.time_zone FROM account a WHERE a.account_id = {t}.account_id LIMIT 1), 'America/Sao_Paulo'))::date"""
_RESOLVED = """
    SELECT r.account_id, r.conversation_id, r.resolved_by, r.resolved_at,
        (SELECT min(m.at) FROM message m WHERE m.account_id = r.account_id AND m.conversation_id = r.conversation_id
            AND m.direction = 'in' AND m.at <= r.resolved_at AND m.at > coalesce((SELECT max(p.resolved_at)
                FROM resolution p WHERE p.account_id = r.account_id AND p.conversation_id = r.conversation_id
                    AND p.resolved_at < r.resolved_at), '-infinity')) AS opened_at
    FROM resolution r"""
_SECONDS = "extract(epoch FROM {later} - {earlier})"
_RESPONSE = _SECONDS.format(later="t.answered_at", earlier="t.asked_at")
_RESOLUTION = _SECONDS.format(later="r.resolved_at", earlier="r.opened_at")

VIEWS = {
    "attendance_turns": f"""
        SELECT t.*, t.answered_at IS NOT NULL AND t.asked_at IS NOT NULL AND row_number() OVER (
                PARTITION BY t.account_id, t.conversation_id, t.answered_at IS NOT NULL AND t.asked_at IS NOT NULL
                ORDER BY t.turn) = 1 AS first_response,
            {_DAY.format(time="coalesce(t.answered_at, t.asked_at)", t="t")} AS date
        FROM ({_TURNS}) t""",
    "attendance_resolutions": f"SELECT r.*, {_DAY.format(time='r.resolved_at', t='r')} AS date FROM ({_RESOLVED}) r",
    "attendance_daily": f"""
        SELECT account_id, date, coalesce(t.received, 0) AS messages_received, coalesce(t.sent, 0) AS answers_sent,
            t.conversations_answered, t.first_response_mean_s, t.first_response_p50_s, t.first_response_p90_s,
            t.response_mean_s, coalesce(r.resolved, 0) AS conversations_resolved, r.resolution_mean_s
        FROM (
            SELECT t.account_id, t.date, sum(t.received)::bigint AS received, sum(t.sent)::bigint AS sent,
                count(DISTINCT t.conversation_id) FILTER (WHERE t.answered_at IS NOT NULL) AS conversations_answered,
                round(avg({_RESPONSE}) FILTER (WHERE t.first_response), 1) AS first_response_mean_s,
                percentile_cont(0.5) WITHIN GROUP (ORDER BY {_RESPONSE}) FILTER (WHERE t.first_response)
                    AS first_response_p50_s,
                percentile_cont(0.9) WITHIN GROUP (ORDER BY {_RESPONSE}) FILTER (WHERE t.first_response)
                    AS first_response_p90_s,
                round(avg({_RESPONSE}), 1) AS response_mean_s
            FROM attendance_turns t GROUP BY t.account_id, t.date
        ) t FULL JOIN (
            SELECT r.account_id, r.date, count(*) AS resolved, round(avg({_RESOLUTION}), 1) AS resolution_mean_s
            FROM attendance_resolutions r GROUP BY r.account_id, r.date
        ) r USING (account_id, date)""",
    "attendance_agents_daily": f"""
        SELECT account_id, date, user_id, coalesce(t.answers, 0) AS answers_sent, t.response_mean_s,
            coalesce(r.resolved, 0) AS conversations_resolved
        FROM (
            SELECT t.account_id, t.date, t.answered_by AS user_id, count(*) AS answers,
                round(avg({_RESPONSE}), 1) AS response_mean_s
            FROM attendance_turns t WHERE t.answered_by IS NOT NULL GROUP BY t.account_id, t.date, t.answered_by
        ) t FULL JOIN (
            SELECT r.account_id, r.date, r.resolved_by AS user_id, count(*) AS resolved
            FROM attendance_resolutions r WHERE r.resolved_by IS NOT NULL
            GROUP BY r.account_id, r.date, r.resolved_by
        ) r USING (account_id, date, user_id)""",
    "accounts": "SELECT a.account_id, a.id, a.name, a.country, a.time_zone, a.created_at, a.updated_at FROM account a",
    "users": """
        SELECT u.account_id, u.id, u.id AS user_id, u.account_id AS company_id, u.email, u.name, u.role, u.active,
            u.created_at, u.updated_at
        FROM app_user u""",
    "products": """
        SELECT p.account_id, p.id, p.account_id AS company_id, p.name, p.description, p.price_cents,
            p.price_cents / 100.0 AS price, p.details, p.created_at, p.updated_at
        FROM product p WHERE NOT p.deleted""",
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
