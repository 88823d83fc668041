"""Contacts as they stand now (written with their events), their aliases, conversations' streams."""

from alembic import op

from chassis.database import TENANT_POLICY

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE contact (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  version integer NOT NULL,
  recipient_key text NOT NULL,
  phone text,
  lid text,
  bsuid text,
  "group" text,
  name text NOT NULL DEFAULT '',
  external_id text,
  source text NOT NULL DEFAULT 'manual',
  tags text[] NOT NULL DEFAULT '{}',
  funnel_stage text,
  custom_fields jsonb NOT NULL DEFAULT '{}',
  opted_out boolean NOT NULL DEFAULT false,
  erased boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, id)
);
CREATE INDEX contact_newest ON contact (account_id, created_at DESC, id DESC);
CREATE INDEX contact_key ON contact (account_id, recipient_key);
CREATE INDEX contact_external ON contact (account_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX contact_tags ON contact USING gin (tags);
CREATE INDEX contact_opted_out ON contact (account_id, recipient_key) WHERE opted_out;

-- Every name that a person goes by; the contact's id is derived from the first one seen.
CREATE TABLE contact_alias (
  account_id uuid NOT NULL,
  alias text NOT NULL,
  contact_id uuid NOT NULL,
  PRIMARY KEY (account_id, alias)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("contact", "contact_alias"):
        for statement in TENANT_POLICY(table):
            op.execute(statement)
