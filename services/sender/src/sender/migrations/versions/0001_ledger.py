"""The sender's memory: attempts, owners, gates, quotas, instances, evidence."""

from alembic import op

from chassis.database import TENANT_POLICY
from chassis.inbox import create_offsets
from chassis.outbox import create_outbox

revision = "0001"
down_revision = None

TENANT_TABLES = (
    "attempt", "instance_owner", "quota", "quota_seen", "service_window", "opt_out", "instance", "evidence",
    "ingest_watermark", "gate",
)  # fmt: skip


def upgrade() -> None:
    for statement in create_offsets() + create_outbox():
        op.execute(statement)
    op.execute(ATTEMPT)
    op.execute(OWNERS_AND_GATES)
    op.execute(PEOPLE)
    op.execute(INSTANCES)
    op.execute(EVIDENCE)
    for table in TENANT_TABLES:
        for statement in TENANT_POLICY(table):
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")


# `queued`: the record as the scheduler wrote it: whatever must be told about the attempt later is in it.
# Fill factors leave room for the update that each row gets, next to the row.
ATTEMPT = """
CREATE TABLE attempt (
  account_id uuid NOT NULL,
  dispatch_id uuid NOT NULL,
  attempt integer NOT NULL CHECK (attempt > 0),
  release integer NOT NULL,
  instance_id uuid NOT NULL,
  campaign_id uuid,
  run_epoch integer NOT NULL,
  epoch bigint NOT NULL,
  recipient_key text NOT NULL,
  text_hash bigint,
  state text NOT NULL CHECK (state IN ('intent', 'accepted', 'rejected_retryable', 'rejected_final', 'not_sent',
                                       'ambiguous', 'unresolved')),
  intent_at timestamptz NOT NULL,
  times_out_at timestamptz NOT NULL,
  quota_scope text,
  may_duplicate boolean NOT NULL DEFAULT false,
  traceparent text,
  queued bytea NOT NULL,
  provider_message_id text,
  address bytea,
  reason text,
  returned boolean NOT NULL DEFAULT false,
  counts boolean NOT NULL DEFAULT true,
  code text,
  detail text NOT NULL DEFAULT '',
  not_before timestamptz,
  evidence text,
  delivered boolean NOT NULL DEFAULT false,
  outcome_at timestamptz,
  looked_up_at timestamptz,
  PRIMARY KEY (account_id, dispatch_id, attempt),
  CHECK ((state = 'intent') = (outcome_at IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX attempt_open ON attempt (instance_id, intent_at) WHERE state IN ('intent', 'ambiguous', 'unresolved');
CREATE INDEX attempt_under_way ON attempt (campaign_id, run_epoch) WHERE state = 'intent';
CREATE INDEX attempt_recipient ON attempt (instance_id, recipient_key, intent_at);
CREATE INDEX attempt_provider_id ON attempt (instance_id, provider_message_id)
  WHERE provider_message_id IS NOT NULL;
CREATE INDEX attempt_age ON attempt USING brin (intent_at);
ALTER TABLE attempt ALTER COLUMN queued SET STORAGE MAIN;
"""

# Gates belong to no single account (`everything` to none at all); the key of the others names theirs.
OWNERS_AND_GATES = """
CREATE TABLE instance_owner (
  instance_id uuid PRIMARY KEY,
  account_id uuid NOT NULL,
  epoch bigint NOT NULL,
  owner text NOT NULL,
  lease_until timestamptz NOT NULL,
  released boolean NOT NULL DEFAULT false,
  tat timestamptz NOT NULL DEFAULT 'epoch'
) WITH (fillfactor = 40);
CREATE TABLE gate (
  scope text NOT NULL CHECK (scope IN ('campaign', 'account', 'instance', 'template', 'everything')),
  key text NOT NULL,
  account_id uuid,
  closed_through integer NOT NULL DEFAULT -1,
  cancelled boolean NOT NULL DEFAULT false,
  held boolean NOT NULL DEFAULT false,
  version bigint NOT NULL DEFAULT 0,
  closing boolean NOT NULL DEFAULT false,
  asked_by uuid,
  PRIMARY KEY (scope, key)
) WITH (fillfactor = 50);
CREATE INDEX gate_closing ON gate (scope, key) WHERE closing;
"""

PEOPLE = """
CREATE TABLE quota (
  account_id uuid NOT NULL,
  scope text NOT NULL,
  used integer NOT NULL DEFAULT 0 CHECK (used >= 0),
  PRIMARY KEY (account_id, scope)
) WITH (fillfactor = 40);
CREATE TABLE quota_seen (
  account_id uuid NOT NULL,
  scope text NOT NULL,
  recipient_key text NOT NULL,
  last_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, scope, recipient_key)
);
CREATE INDEX quota_seen_age ON quota_seen (account_id, scope, last_at);
CREATE TABLE service_window (
  account_id uuid NOT NULL,
  instance_id uuid NOT NULL,
  recipient_key text NOT NULL,
  open_until timestamptz NOT NULL,
  PRIMARY KEY (account_id, instance_id, recipient_key)
);
CREATE TABLE opt_out (
  account_id uuid NOT NULL,
  recipient_key text NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (account_id, recipient_key)
);
"""

# `made_version`, `made_key`: the wish and the webhook key (its hash) that the gateway was last told of.
# `stopped_reason`: the sender itself found that the instance cannot send (credentials, ban, log-out).
INSTANCES = """
CREATE TABLE instance (
  instance_id uuid PRIMARY KEY,
  account_id uuid NOT NULL,
  config jsonb NOT NULL,
  revision bigint NOT NULL DEFAULT 1,
  made_version integer NOT NULL DEFAULT 0,
  made_key text,
  tried_at timestamptz,
  tries integer NOT NULL DEFAULT 0,
  stopped_reason text,
  stopped_at timestamptz
);
"""

# One row for each fact; `fact` tells statuses of one message apart.
EVIDENCE = """
CREATE TABLE evidence (
  account_id uuid NOT NULL,
  instance_id uuid NOT NULL,
  provider_message_id text NOT NULL,
  fact text NOT NULL,
  recipient_key text NOT NULL DEFAULT '',
  text_hash bigint,
  failure text,
  code text,
  detail text NOT NULL DEFAULT '',
  at timestamptz NOT NULL,
  received_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, instance_id, provider_message_id, fact)
);
CREATE INDEX evidence_age ON evidence (received_at);
CREATE INDEX evidence_echo ON evidence (instance_id, recipient_key, text_hash) WHERE fact = 'echo';
CREATE TABLE ingest_watermark (
  instance_id uuid PRIMARY KEY,
  account_id uuid NOT NULL,
  at timestamptz NOT NULL
);
"""
