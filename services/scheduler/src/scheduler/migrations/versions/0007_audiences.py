"""The chunk that a started campaign's audience begins with: those before it are of audiences that were replaced."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE campaign ADD COLUMN first_chunk integer NOT NULL DEFAULT 0")
