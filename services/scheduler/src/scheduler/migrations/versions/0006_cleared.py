"""Dead letters that a person cleared: told once, and never counted or offered again."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE dispatch ADD COLUMN cleared boolean NOT NULL DEFAULT false")
