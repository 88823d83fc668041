"""Why a hold was set, and which version of it the sender heeds; the installation's hold is shown to everybody."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE hold ADD COLUMN reason text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE hold ADD COLUMN taken_version integer NOT NULL DEFAULT 0")
    op.execute("CREATE POLICY everything ON hold FOR SELECT TO campaign_api_web USING (scope = 'everything')")
