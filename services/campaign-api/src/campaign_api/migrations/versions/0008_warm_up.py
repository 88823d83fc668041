"""The present day of an instance's warm-up, as it was told last."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE instance ADD COLUMN warming_up jsonb")
