"""Products, tasks, groups of contacts, canned answers."""

from alembic import op

from chassis.database import TENANT_POLICY

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE product (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  price_cents bigint CHECK (price_cents >= 0),
  details jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, id)
);

CREATE TABLE task (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  title text NOT NULL,
  description text NOT NULL DEFAULT '',
  due_at timestamptz,
  assignee_id uuid,
  contact_id uuid,
  conversation_id uuid,
  status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'done')),
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, id)
);

-- People gathered under a name, by the tags they carry.
CREATE TABLE contact_group (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  name text NOT NULL,
  description text NOT NULL DEFAULT '',
  tags text[] NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, id)
);

CREATE TABLE canned_answer (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  shortcut text NOT NULL,
  text text NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, id),
  UNIQUE (account_id, shortcut)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("product", "task", "contact_group", "canned_answer"):
        for statement in TENANT_POLICY(table):
            op.execute(statement)
