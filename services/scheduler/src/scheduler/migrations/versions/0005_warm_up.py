"""How many messages of campaigns a new number may release in its present day of warming up."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE lane ADD COLUMN warm_allowance integer, ADD COLUMN warm_used integer NOT NULL DEFAULT 0,"
        " ADD COLUMN warm_begins_at timestamptz, ADD COLUMN warm_until timestamptz"
    )
