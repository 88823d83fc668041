"""Since when a number cannot send, so that what it has not sent moves to others."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TABLE instance ADD COLUMN stopped_at timestamptz")
    op.execute("CREATE INDEX instance_stopped ON instance (stopped_at) WHERE stopped_at IS NOT NULL")
