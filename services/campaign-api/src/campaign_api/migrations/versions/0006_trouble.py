"""Why an instance does not send, as it was told last."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE instance ADD COLUMN trouble text, ADD COLUMN trouble_at timestamptz")
