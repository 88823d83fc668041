"""Rests of numbers, and what was reported of their messages, in slots of five minutes."""

from alembic import op

from chassis.database import TENANT_POLICY

revision = "0004"
down_revision = "0003"

# `resting` until the end of the rest was told; `rest_until` and `strikes` stay: the next rest is longer.
REPORTS = """
CREATE TABLE instance_report (
  instance_id uuid NOT NULL,
  account_id uuid NOT NULL,
  slot timestamptz NOT NULL,
  sent integer NOT NULL DEFAULT 0,
  delivered integer NOT NULL DEFAULT 0,
  errors integer NOT NULL DEFAULT 0,
  PRIMARY KEY (instance_id, slot)
) WITH (fillfactor = 50)
"""


def upgrade() -> None:
    op.execute(
        "ALTER TABLE instance ADD COLUMN rest_reason text, ADD COLUMN rest_until timestamptz,"
        " ADD COLUMN resting boolean NOT NULL DEFAULT false, ADD COLUMN strikes integer NOT NULL DEFAULT 0"
    )
    op.execute("CREATE INDEX instance_resting ON instance (rest_until) WHERE resting")
    op.execute(REPORTS)
    op.execute("CREATE INDEX instance_report_age ON instance_report (slot)")
    for statement in TENANT_POLICY("instance_report"):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")
