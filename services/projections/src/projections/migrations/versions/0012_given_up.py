"""Dispatches that a person gave up, and those that may have been sent twice."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# In the order of the columns that the statement inserts, and of the fields of its tuples.
GIVEN = """CREATE TYPE given_dispatch AS (account_id uuid, id uuid, subject_id uuid, recipient_id uuid, step integer,
    instance_id uuid, version integer, attempt integer, release integer, state text, reason text, due_at timestamptz,
    changed_at timestamptz, may_duplicate boolean, given_up boolean, message_id uuid, sent_at timestamptz,
    delivery integer, delivered_at timestamptz, read_at timestamptz, error_key text, error text)"""
# Of several attempts more than one may have arrived: the last was accepted, or nobody knows, and so it was of one
# before. However old it is: it is the report's.
VIEW = """
    CREATE VIEW possibly_twice WITH (security_invoker = true) AS
    SELECT d.account_id, d.id, CASE WHEN d.recipient_id IS NOT NULL THEN d.subject_id END AS campaign_id,
        d.recipient_id, r.contact_id, d.instance_id,
        r.phone AS phone_number, r.name, r.external_id, d.step AS order_index, q.state, d.attempt, d.sent_at,
        greatest(d.changed_at, d.sent_at, d.delivered_at, d.read_at) AS updated_at
    FROM dispatch d
    CROSS JOIN LATERAL (SELECT
        CASE WHEN d.state = 'failed' AND d.delivery >= 3 THEN 'accepted' ELSE d.state END AS state) q
    LEFT JOIN recipient r ON r.account_id = d.account_id AND r.id = d.recipient_id AND r.source_event IS NOT NULL
    WHERE d.may_duplicate AND q.state IN ('accepted', 'unresolved')
"""


def upgrade() -> None:
    op.execute("DROP TYPE projections.given_dispatch")
    op.execute(GIVEN)
    for generation in ("projections_g1", "projections_g2"):
        op.execute(f"SET LOCAL search_path TO {generation}, projections")
        op.execute(
            "ALTER TABLE dispatch ADD COLUMN may_duplicate boolean NOT NULL DEFAULT false,"
            " ADD COLUMN given_up boolean NOT NULL DEFAULT false"
        )
        # Few rows, and no column of it changes with what happens to a message: updates stay on their pages.
        op.execute("CREATE INDEX dispatch_twice ON dispatch (account_id, subject_id, id) WHERE may_duplicate")
        op.execute(VIEW)
        op.execute("GRANT SELECT ON possibly_twice TO campaign_api_web, analyst, projections_worker")
    op.execute("SET LOCAL search_path TO projections")
    op.execute("SELECT show_generation(current) FROM generation")
