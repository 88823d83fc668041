"""Audiences are known before the start, and those that another one replaced are nobody's."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# In the order of the columns that the statements insert, and of the fields of their tuples.
GIVEN = """
    DROP TYPE projections.given_recipient;
    CREATE TYPE projections.given_recipient AS (account_id uuid, id uuid, campaign_id uuid, source_event uuid,
        contact_id uuid, external_id text, phone text, name text, custom_fields jsonb, added_at timestamptz,
        audience integer);
    CREATE TYPE projections.given_audience AS (account_id uuid, id uuid, first_chunk integer)
"""
TABLE = """
    ALTER TABLE recipient ADD COLUMN audience integer NOT NULL DEFAULT 0;
    CREATE TABLE audience (account_id uuid, id uuid, first_chunk integer NOT NULL, PRIMARY KEY (account_id, id));
    ALTER TABLE audience ENABLE ROW LEVEL SECURITY;
    ALTER TABLE audience FORCE ROW LEVEL SECURITY;
    CREATE POLICY web ON audience FOR SELECT TO campaign_api_web
        USING (account_id = nullif(current_setting('app.account_id', true), '')::uuid);
    CREATE POLICY analyst ON audience FOR SELECT TO analyst
        USING (account_id = (SELECT projections.account_of_analyst(current_user)));
    CREATE POLICY worker ON audience TO projections_worker USING (true) WITH CHECK (true);
    GRANT SELECT ON audience TO campaign_api_web, analyst;
    GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON audience TO projections_worker
"""


def upgrade() -> None:
    op.execute(GIVEN)
    for generation in ("projections_g1", "projections_g2"):
        op.execute(f"SET LOCAL search_path TO {generation}")
        op.execute(TABLE)
    op.execute("SET LOCAL search_path TO projections")
