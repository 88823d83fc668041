"""The warm-up of new numbers, and what people answer."""

from alembic import op

from chassis.database import TENANT_POLICY

revision = "0005"
down_revision = "0004"

WARM_UP = """
CREATE TABLE warm_up (
  instance_id uuid PRIMARY KEY,
  account_id uuid NOT NULL,
  plan jsonb NOT NULL,
  day integer NOT NULL,
  allowance integer NOT NULL,
  begins_at timestamptz NOT NULL,
  slowed_by text,
  cut boolean NOT NULL DEFAULT false,
  done boolean NOT NULL DEFAULT false
)
"""


def upgrade() -> None:
    op.execute("ALTER TABLE instance_report ADD COLUMN answers integer NOT NULL DEFAULT 0")
    op.execute(WARM_UP)
    op.execute("CREATE INDEX warm_up_begins ON warm_up (begins_at) WHERE NOT done")
    for statement in TENANT_POLICY("warm_up"):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")
