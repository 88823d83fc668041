"""Webhooks of the account's numbers that could not be translated, as webhook-ingest tells of them."""

from alembic import op

from chassis.database import TENANT_POLICY

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE unread_webhook (
          account_id uuid NOT NULL,
          id uuid NOT NULL,
          instance_id uuid NOT NULL,
          reason text NOT NULL,
          received_at timestamptz NOT NULL,
          told_at timestamptz NOT NULL,
          PRIMARY KEY (account_id, id)
        )
        """
    )
    for statement in TENANT_POLICY("unread_webhook"):
        op.execute(statement)
    op.execute("REVOKE INSERT, UPDATE, DELETE ON unread_webhook FROM campaign_api_web")
