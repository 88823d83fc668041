"""How many messages a number receives each second."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE ingest_watermark ADD COLUMN inbound_per_s float8 NOT NULL DEFAULT 0,"
        " ADD COLUMN inbound_at timestamptz NOT NULL DEFAULT 'epoch'"
    )
    op.execute("CREATE INDEX ingest_watermark_inbound ON ingest_watermark (inbound_at)")


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")
