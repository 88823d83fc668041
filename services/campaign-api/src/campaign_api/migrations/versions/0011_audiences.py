"""Audiences are published when they are made: one that replaces another begins with the next free chunk.

Those of drafts were to be published with the start: they are now.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

PUBLISH = """
INSERT INTO outbox (id, topic, key, headers, value)
SELECT n.id, 'campaign-recipients', a.campaign_id::text, jsonb_build_object(
    'ce_specversion', '1.0', 'content-type', 'application/json', 'ce_id', n.id::text, 'ce_type', 'RecipientsAdded',
    'ce_schemaversion', '1', 'ce_source', 'campaign-api', 'ce_subject', a.campaign_id::text,
    'ce_time', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
    'ce_accountid', a.account_id::text), a.value
FROM audience_chunk a JOIN campaign c ON c.account_id = a.account_id AND c.id = a.campaign_id
CROSS JOIN LATERAL (SELECT gen_random_uuid() AS id WHERE a.chunk >= 0) n
WHERE c.status IN ('draft', 'scheduled') ORDER BY a.campaign_id, a.chunk
"""


def upgrade() -> None:
    op.execute("ALTER TABLE audience ADD COLUMN first_chunk integer NOT NULL DEFAULT 0")
    for table in ("audience_chunk", "campaign"):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")  # the owner reads all accounts
    op.execute(PUBLISH)
    for table in ("audience_chunk", "campaign"):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
