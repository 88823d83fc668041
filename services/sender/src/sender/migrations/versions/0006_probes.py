"""What the gateway said of itself, and when it was asked last."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("ALTER TABLE instance ADD COLUMN gateway_version text, ADD COLUMN probed_at timestamptz")


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")
