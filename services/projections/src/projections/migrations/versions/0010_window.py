"""What each number sent within the last 24 hours, by the reader's clock: beside its limit of unique people."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

VIEW = """
    CREATE VIEW instance_window WITH (security_invoker = true) AS
    SELECT v.account_id, v.scope_id AS instance_id, sum(v.value)::bigint AS messages_sent
    FROM volume v
    WHERE v.scope = 'instance' AND v.measure = 'sent' AND v.quarter > now() - interval '24 hours'
    GROUP BY v.account_id, v.scope_id
"""


def upgrade() -> None:
    for generation in ("projections_g1", "projections_g2"):
        op.execute(f"SET LOCAL search_path TO {generation}")
        op.execute(VIEW)
        op.execute("GRANT SELECT ON instance_window TO campaign_api_web, analyst, projections_worker")
    op.execute("SET LOCAL search_path TO projections")
    op.execute("SELECT show_generation(current) FROM generation")
