"""The plan of dispatches, lanes, bindings: everything that waits."""

from alembic import op

from chassis.database import TENANT_POLICY
from chassis.inbox import create_offsets
from chassis.outbox import create_outbox

revision = "0001"
down_revision = None

_TENANT_TABLES = (
    "campaign", "plan", "chunk", "recipient", "dispatch", "answer", "chore", "release_day",
    "lane", "line", "instance", "occupancy", "binding", "opt_out", "hold",
)  # fmt: skip


def upgrade() -> None:
    op.execute(_CAMPAIGNS)
    op.execute(_DISPATCHES)
    op.execute(_INSTANCES)
    for statement in [*create_outbox(), *create_offsets()]:
        op.execute(statement)
    for table in _TENANT_TABLES:
        for statement in TENANT_POLICY(table):
            op.execute(statement)


_CAMPAIGNS = """
CREATE TABLE campaign (
    campaign_id uuid NOT NULL,
    account_id uuid NOT NULL,
    status text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'scheduled', 'running', 'pausing', 'paused',
        'cancelling', 'cancelled', 'completed', 'failed', 'deleted')),
    status_at timestamptz NOT NULL DEFAULT now(),
    run_epoch integer NOT NULL DEFAULT 0,
    stream_version bigint NOT NULL DEFAULT 0,
    definition jsonb,
    definition_version integer NOT NULL DEFAULT 0,
    valid_until timestamptz,
    scheduled_at timestamptz,
    due_reported boolean NOT NULL DEFAULT false,
    chunk_count integer,
    recipient_count integer,
    planned_dispatches integer,
    drained boolean NOT NULL DEFAULT false,
    drained_count integer NOT NULL DEFAULT 0,
    blocked_since timestamptz,
    blocked_epoch integer NOT NULL DEFAULT 0,
    traceparent text,
    PRIMARY KEY (campaign_id, account_id)
);
CREATE INDEX campaign_ended ON campaign (status_at) WHERE status IN ('completed', 'cancelled');
CREATE INDEX campaign_active ON campaign (status) WHERE status NOT IN ('completed', 'cancelled', 'deleted');

-- A campaign that is being planned: page after page in the order of position.
CREATE TABLE plan (
    campaign_id uuid NOT NULL,
    account_id uuid NOT NULL,
    position bigint NOT NULL DEFAULT -1,
    planned integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (campaign_id, account_id)
);

CREATE TABLE chunk (
    campaign_id uuid NOT NULL,
    account_id uuid NOT NULL,
    chunk integer NOT NULL,
    PRIMARY KEY (campaign_id, chunk, account_id)
);

CREATE TABLE recipient (
    campaign_id uuid NOT NULL,
    account_id uuid NOT NULL,
    recipient_id uuid NOT NULL,
    position bigint NOT NULL,
    contact_id uuid NOT NULL,
    recipient_key text NOT NULL,
    phone text NOT NULL,
    name text NOT NULL,
    custom_fields text NOT NULL,
    PRIMARY KEY (recipient_id, account_id)
);
CREATE INDEX recipient_position ON recipient (campaign_id, position);
CREATE INDEX recipient_person ON recipient (account_id, recipient_key);

-- Work on all of a campaign's dispatches, done page by page by the worker.
CREATE TABLE chore (
    campaign_id uuid NOT NULL,
    account_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('cancel', 'requeue', 'expire', 'delete')),
    PRIMARY KEY (campaign_id, kind, account_id)
);

-- Releases of a campaign in one of its days, counted for its daily limit.
CREATE TABLE release_day (
    campaign_id uuid NOT NULL,
    account_id uuid NOT NULL,
    day timestamptz NOT NULL,
    used integer NOT NULL CHECK (used >= 0),
    PRIMARY KEY (campaign_id, day, account_id)
);
"""

_DISPATCHES = """
CREATE TABLE dispatch (
    dispatch_id uuid NOT NULL,
    account_id uuid NOT NULL,
    campaign_id uuid,
    recipient_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    instance_id uuid NOT NULL,
    step smallint NOT NULL DEFAULT 0,
    place bigint NOT NULL DEFAULT 0,
    state text NOT NULL CHECK (state IN ('pending', 'released', 'accepted', 'failed', 'skipped', 'expired',
        'cancelled', 'unresolved')),
    waits text CHECK (waits IN ('previous_step', 'time', 'run')),
    reason text,
    due_at timestamptz,
    attempt integer NOT NULL DEFAULT 1,
    release integer NOT NULL DEFAULT 0,
    retries integer NOT NULL DEFAULT 0,
    run_epoch integer NOT NULL DEFAULT 0,
    awaiting boolean NOT NULL DEFAULT false,
    may_duplicate boolean NOT NULL DEFAULT false,
    retryable boolean NOT NULL DEFAULT false,
    revoked integer NOT NULL DEFAULT 0,
    version integer NOT NULL DEFAULT 1,
    released_at timestamptz,
    published_at timestamptz,
    send_before timestamptz,
    ended_at timestamptz,
    PRIMARY KEY (dispatch_id, account_id),
    CHECK (waits IS NULL OR state = 'pending'),
    CHECK (coalesce(waits = 'time', false) = (due_at IS NOT NULL)),
    CHECK (NOT awaiting OR state = 'released'),
    CHECK ((ended_at IS NULL) = (state IN ('pending', 'released')))
) WITH (fillfactor = 70);
-- What may leave a lane, in its order.
CREATE INDEX dispatch_ready ON dispatch (instance_id, campaign_id, place)
    WHERE state = 'pending' AND waits IS NULL AND campaign_id IS NOT NULL;
-- Whether a run still has something that is not final. Its condition is worded unlike that of dispatch_ready on
-- purpose: a planner without statistics must not take the one for the other.
CREATE INDEX dispatch_open ON dispatch (campaign_id, waits) WHERE ended_at IS NULL;
CREATE INDEX dispatch_due ON dispatch (due_at) WHERE waits = 'time';
-- What was released and not published, or not answered for too long.
CREATE INDEX dispatch_released ON dispatch (released_at) WHERE state = 'released';
CREATE INDEX dispatch_people ON dispatch (state) WHERE campaign_id IS NULL AND state IN ('pending', 'released');
CREATE INDEX dispatch_answered ON dispatch (ended_at) WHERE campaign_id IS NULL AND ended_at IS NOT NULL;
CREATE INDEX dispatch_dead ON dispatch (campaign_id) WHERE state IN ('failed', 'unresolved');

-- A person's answer: rendered already.
CREATE TABLE answer (
    dispatch_id uuid NOT NULL,
    account_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    address text NOT NULL,
    content text NOT NULL,
    reply_to text,
    traceparent text,
    PRIMARY KEY (dispatch_id, account_id)
);
"""

_INSTANCES = """
CREATE TABLE instance (
    instance_id uuid NOT NULL,
    account_id uuid NOT NULL,
    name text NOT NULL,
    status text NOT NULL,
    is_active boolean NOT NULL,
    is_default boolean NOT NULL,
    deleted boolean NOT NULL,
    max_users integer NOT NULL,
    rate double precision NOT NULL,
    target double precision NOT NULL,
    detected_rate double precision,
    throttled_rate double precision,
    health text,
    wanted_version integer NOT NULL,
    PRIMARY KEY (instance_id, account_id)
);
CREATE INDEX instance_account ON instance (account_id);

CREATE TABLE occupancy (
    instance_id uuid NOT NULL,
    account_id uuid NOT NULL,
    bound integer NOT NULL DEFAULT 0 CHECK (bound >= 0),
    PRIMARY KEY (instance_id, account_id)
);

CREATE TABLE binding (
    account_id uuid NOT NULL,
    recipient_key text NOT NULL,
    instance_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    PRIMARY KEY (account_id, recipient_key)
);

CREATE TABLE opt_out (
    account_id uuid NOT NULL,
    recipient_key text NOT NULL,
    PRIMARY KEY (account_id, recipient_key)
);

-- Kill-switches; the scope 'everything' is stored for the account nil.
CREATE TABLE hold (
    account_id uuid NOT NULL,
    scope text NOT NULL,
    key text NOT NULL,
    held boolean NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (account_id, scope, key)
);

CREATE TABLE lane (
    instance_id uuid NOT NULL,
    account_id uuid NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now(),
    last_outcome_at timestamptz,
    draw double precision NOT NULL DEFAULT 0,
    sent_since_rest integer NOT NULL DEFAULT 0,
    in_flight integer NOT NULL DEFAULT 0,
    blocked_until timestamptz,
    blocked_by text,
    turns jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (instance_id, account_id)
) WITH (fillfactor = 50);
CREATE INDEX lane_due ON lane (due_at);

-- A campaign's presence in a lane.
CREATE TABLE line (
    instance_id uuid NOT NULL,
    campaign_id uuid NOT NULL,
    account_id uuid NOT NULL,
    PRIMARY KEY (instance_id, campaign_id, account_id)
);
CREATE INDEX line_campaign ON line (campaign_id);
"""
