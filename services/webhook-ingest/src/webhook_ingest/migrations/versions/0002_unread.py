"""Webhooks of a known number that could not be translated, until they are, or a person gives them up."""

from alembic import op

from chassis.database import TENANT_POLICY

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE unread (
            account_id uuid NOT NULL,
            id uuid NOT NULL,
            instance_id uuid NOT NULL,
            reason text NOT NULL,
            headers jsonb NOT NULL,
            value bytea NOT NULL,
            received_at timestamptz NOT NULL,
            kept_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (account_id, id)
        )
        """
    )
    op.execute("CREATE INDEX unread_age ON unread (kept_at)")
    for statement in TENANT_POLICY("unread"):
        op.execute(statement)
