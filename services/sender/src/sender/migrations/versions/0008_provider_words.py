"""When a provider's last word of an account and of a template was said: older ones that come late change nothing."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("ALTER TABLE instance ADD COLUMN account_word_at timestamptz")
    op.execute("ALTER TABLE gate ADD COLUMN word_at timestamptz")


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")
