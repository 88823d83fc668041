"""Campaigns that are still to be planned, cancelled ones too, are found without reading those that were."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX campaign_unplanned ON campaign (campaign_id)"
        " WHERE status <> 'deleted' AND chunk_count IS NOT NULL AND planned_dispatches IS NULL"
    )
