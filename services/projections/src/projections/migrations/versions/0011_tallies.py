"""A campaign's dispatches are counted where they change: a recipient's row carries no tally of them."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for generation in ("projections_g1", "projections_g2"):
        op.execute(f"ALTER TABLE {generation}.recipient DROP COLUMN tally")
        # Dispatches are asked for by their ids and through their recipients.
        op.execute(f"DROP INDEX {generation}.dispatch_subject")
