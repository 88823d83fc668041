"""Since when a number is cleared of what had stopped it: what happened before and is told again does not count."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("ALTER TABLE instance ADD COLUMN cleared_at timestamptz")


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")
