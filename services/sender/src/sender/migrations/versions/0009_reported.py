"""Whether a status said that a message went: told twice, it is counted once."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("ALTER TABLE attempt ADD COLUMN reported boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")
