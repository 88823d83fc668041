"""The adaptive rate outlives its owner: what the provider refused last, and since when the number climbs again."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE instance_owner ADD COLUMN pace_cap float8, ADD COLUMN pace_refused float8,"
        " ADD COLUMN pace_full float8, ADD COLUMN pace_at timestamptz, ADD COLUMN pace_until timestamptz"
    )
    op.execute("CREATE INDEX instance_owner_pace ON instance_owner (pace_until) WHERE pace_until IS NOT NULL")


def downgrade() -> None:
    raise NotImplementedError("the ledger is never dropped by a migration")
