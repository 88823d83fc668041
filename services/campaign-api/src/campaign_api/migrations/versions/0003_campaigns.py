"""Campaigns and instances as they stand now (written with their events), audiences, uploads."""

from alembic import op

from chassis.database import TENANT_POLICY

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE campaign (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  version integer NOT NULL,
  status text NOT NULL,
  name text NOT NULL,
  owner_id uuid,
  run_epoch integer NOT NULL,
  definition jsonb NOT NULL,
  failure text,
  failure_detail text NOT NULL DEFAULT '',
  scheduled_at timestamptz,
  started_at timestamptz,
  completed_at timestamptz,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, id)
);
CREATE INDEX campaign_newest ON campaign (account_id, created_at DESC, id DESC);

-- Who a campaign goes to: RecipientsAdded as they are published when it starts, editable until then.
CREATE TABLE audience (
  account_id uuid NOT NULL,
  campaign_id uuid NOT NULL,
  recipient_count integer NOT NULL,
  chunk_count integer NOT NULL,
  filled jsonb NOT NULL DEFAULT '{}',
  duplicates integer NOT NULL DEFAULT 0,
  opted_out integer NOT NULL DEFAULT 0,
  rejected integer NOT NULL DEFAULT 0,
  PRIMARY KEY (account_id, campaign_id)
);

CREATE TABLE audience_chunk (
  account_id uuid NOT NULL,
  campaign_id uuid NOT NULL,
  chunk integer NOT NULL,
  value bytea NOT NULL,
  PRIMARY KEY (account_id, campaign_id, chunk)
);

CREATE TABLE instance (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  version integer NOT NULL,
  name text NOT NULL,
  is_default boolean NOT NULL,
  gateway_instance text,
  configuration jsonb NOT NULL,
  connection_status text NOT NULL DEFAULT 'disconnected',
  connected_phone text,
  qr_code text,
  pairing_code text,
  throttled_rate double precision,
  breaker text,
  breaker_until timestamptz,
  quality text,
  last_event_at timestamptz,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, id)
);

CREATE TABLE upload (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  file_name text NOT NULL,
  size_bytes bigint NOT NULL,
  sha256 bytea NOT NULL,
  created_by uuid,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, id)
);
CREATE INDEX upload_expiry ON upload (expires_at);

CREATE TABLE upload_chunk (
  account_id uuid NOT NULL,
  upload_id uuid NOT NULL,
  chunk integer NOT NULL,
  data bytea NOT NULL,
  PRIMARY KEY (account_id, upload_id, chunk),
  FOREIGN KEY (account_id, upload_id) REFERENCES upload ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);

-- One reading of a file or list: into contacts, or into a campaign's audience (its id is the campaign's).
CREATE TABLE import (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('contacts', 'campaign')),
  upload_id uuid,
  options jsonb NOT NULL DEFAULT '{}',
  state text NOT NULL CHECK (state IN ('waiting', 'running', 'completed', 'failed')),
  accepted integer NOT NULL DEFAULT 0,
  rejected integer NOT NULL DEFAULT 0,
  error text,
  lease_until timestamptz,
  created_by uuid,
  created_at timestamptz NOT NULL,
  finished_at timestamptz,
  PRIMARY KEY (account_id, id)
);
CREATE INDEX import_open ON import (created_at) WHERE state IN ('waiting', 'running');

CREATE TABLE import_rejection (
  account_id uuid NOT NULL,
  import_id uuid NOT NULL,
  "row" integer NOT NULL,
  reason text NOT NULL,
  cells jsonb NOT NULL,
  PRIMARY KEY (account_id, import_id, "row")
);
"""


def upgrade() -> None:
    op.execute(TABLES)
    tables = "campaign audience audience_chunk instance upload upload_chunk import import_rejection"
    for table in tables.split():
        for statement in TENANT_POLICY(table):
            op.execute(statement)
    # app.own_only: an operator of an account that shows its operators only what is theirs, or nobody's.
    mine = "owner_id IS NULL OR owner_id = nullif(current_setting('app.user_id', true), '')::uuid"
    op.execute(
        "CREATE POLICY own ON campaign AS RESTRICTIVE FOR SELECT TO campaign_api_web"
        f" USING (coalesce(current_setting('app.own_only', true), '') <> 'true' OR {mine})"
    )
