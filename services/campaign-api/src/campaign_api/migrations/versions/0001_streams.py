"""Event streams, outbox, consumer offsets, audit log, idempotency keys."""

from alembic import op

from chassis.database import TENANT_POLICY
from chassis.inbox import create_offsets
from chassis.outbox import create_outbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE event (
  account_id uuid NOT NULL,
  stream_id uuid NOT NULL,
  version integer NOT NULL CHECK (version > 0),
  stream_type text NOT NULL,
  event_id uuid NOT NULL,
  type text NOT NULL,
  schema_version integer NOT NULL,
  data jsonb NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}',
  recorded_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, stream_id, version)
);

-- Append-only; each row's hash covers the row before it, per account.
CREATE TABLE audit (
  account_id uuid NOT NULL,
  position bigint NOT NULL CHECK (position > 0),
  at timestamptz NOT NULL,
  actor_id uuid,
  actor_kind text NOT NULL,
  address text,
  action text NOT NULL,
  subject text NOT NULL,
  details jsonb NOT NULL DEFAULT '{}',
  previous_hash bytea NOT NULL,
  hash bytea NOT NULL,
  PRIMARY KEY (account_id, position)
);

-- status NULL = the first request with this key is still at work.
CREATE TABLE idempotency (
  account_id uuid NOT NULL,
  route text NOT NULL,
  key text NOT NULL CHECK (length(key) <= 255),
  request_hash bytea NOT NULL,
  status integer,
  headers jsonb,
  body bytea,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (account_id, route, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

-- What a person asked of another service and the answer that came back on campaign-progress.
CREATE TABLE answer (
  account_id uuid NOT NULL,
  request_id uuid NOT NULL,
  type text NOT NULL,
  data jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (account_id, request_id)
);

CREATE TABLE hold (
  account_id uuid NOT NULL,
  scope text NOT NULL,
  key text NOT NULL,
  held boolean NOT NULL,
  version integer NOT NULL,
  set_by uuid,
  set_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, scope, key)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
    for statement in [*create_outbox(), *create_offsets()]:
        op.execute(statement)
    for table in ("event", "audit", "idempotency", "answer", "hold"):
        for statement in TENANT_POLICY(table):
            op.execute(statement)
    # Requests may add facts, never change or read past what they need.
    op.execute("REVOKE UPDATE, DELETE ON event, audit FROM campaign_api_web")
    op.execute("REVOKE UPDATE, DELETE ON audit FROM campaign_api_worker")
    op.execute("REVOKE ALL ON outbox, consumer_offset FROM campaign_api_web")
    op.execute("GRANT INSERT ON outbox TO campaign_api_web")
    op.execute("REVOKE INSERT, UPDATE, DELETE ON answer FROM campaign_api_web")
