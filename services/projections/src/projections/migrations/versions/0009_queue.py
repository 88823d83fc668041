"""What is asked every few seconds: the queue of each instance, counted as it moves, and what was sent just now."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLE = """
    CREATE TABLE queue_counter (
        account_id uuid, instance_id uuid, state text COLLATE "C", value bigint NOT NULL,
        PRIMARY KEY (account_id, instance_id, state)
    ) WITH (fillfactor = 50);
    ALTER TABLE queue_counter ENABLE ROW LEVEL SECURITY;
    ALTER TABLE queue_counter FORCE ROW LEVEL SECURITY;
    CREATE POLICY web ON queue_counter FOR SELECT TO campaign_api_web
        USING (account_id = nullif(current_setting('app.account_id', true), '')::uuid);
    CREATE POLICY analyst ON queue_counter FOR SELECT TO analyst
        USING (account_id = (SELECT projections.account_of_analyst(current_user)));
    CREATE POLICY worker ON queue_counter TO projections_worker USING (true) WITH CHECK (true);
    GRANT SELECT ON queue_counter TO campaign_api_web, analyst;
    GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON queue_counter TO projections_worker
"""
# The owner is no reader of the rows of all accounts: row-level security is forced for it too, and lifted for this.
FILL = """
    ALTER TABLE dispatch NO FORCE ROW LEVEL SECURITY;
    ALTER TABLE queue_counter NO FORCE ROW LEVEL SECURITY;
    INSERT INTO queue_counter (account_id, instance_id, state, value)
    SELECT q.account_id, q.instance_id, q.state, count(*)
    FROM (
        SELECT d.account_id, d.instance_id,
            CASE WHEN d.state = 'failed' AND d.delivery >= 3 THEN 'accepted' ELSE coalesce(d.state, 'pending') END
            AS state
        FROM dispatch d
    ) q
    WHERE q.instance_id IS NOT NULL AND q.state IN ('pending', 'released', 'failed', 'unresolved')
    GROUP BY 1, 2, 3;
    ALTER TABLE dispatch FORCE ROW LEVEL SECURITY;
    ALTER TABLE queue_counter FORCE ROW LEVEL SECURITY
"""
VIEW = """
    CREATE VIEW queue_statistics WITH (security_invoker = true) AS
    SELECT q.account_id, q.instance_id,
        coalesce(sum(q.value) FILTER (WHERE q.state = 'pending'), 0)::bigint AS pending,
        coalesce(sum(q.value) FILTER (WHERE q.state = 'released'), 0)::bigint AS processing,
        coalesce(sum(q.value) FILTER (WHERE q.state = 'failed'), 0)::bigint AS dead_letters,
        coalesce(sum(q.value) FILTER (WHERE q.state = 'unresolved'), 0)::bigint AS unresolved
    FROM queue_counter q GROUP BY q.account_id, q.instance_id
"""


def upgrade() -> None:
    for generation in ("projections_g1", "projections_g2"):
        op.execute(f"SET LOCAL search_path TO {generation}")
        op.execute(TABLE)
        op.execute(FILL)
        op.execute(VIEW)
        op.execute("GRANT SELECT ON queue_statistics TO campaign_api_web, analyst, projections_worker")
        # Rows are written in about the order of their times, and a BRIN index, alone among indexes, leaves updates HOT.
        op.execute(
            "CREATE INDEX message_sent ON message USING brin (sent_at) WITH (pages_per_range = 16, autosummarize = on)"
        )
    op.execute("SET LOCAL search_path TO projections")
    op.execute("SELECT show_generation(current) FROM generation")
