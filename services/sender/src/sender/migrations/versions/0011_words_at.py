"""When the provider last said something of each kind about a number: an older word that comes late changes nothing."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("ALTER TABLE instance ADD COLUMN words_at jsonb NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")
