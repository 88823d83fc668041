"""What a plan makes of dispatches, handed over without the two thirds of columns that say nothing yet."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""CREATE TYPE projections.given_planned AS (account_id uuid, id uuid, subject_id uuid,
        recipient_id uuid, step integer, instance_id uuid, reason text, changed_at timestamptz)""")
