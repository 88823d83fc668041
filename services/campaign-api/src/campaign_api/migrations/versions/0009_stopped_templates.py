"""What the provider of a template says of it, beside the hold that a person may have set."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE hold ADD COLUMN stopped_reason text, ADD COLUMN stopped_until timestamptz,"
        " ADD COLUMN stopped_at timestamptz"
    )
