"""When the provider last said something of each kind about a number: an older word that comes late changes nothing."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE instance ADD COLUMN words_at jsonb NOT NULL DEFAULT '{}'")
