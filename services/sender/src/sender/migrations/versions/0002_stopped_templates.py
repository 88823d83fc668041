"""A template that its provider stopped: until a person lifts the hold, or a time that the failure names."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE gate ADD COLUMN stopped_reason text, ADD COLUMN stopped_until timestamptz")


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")
