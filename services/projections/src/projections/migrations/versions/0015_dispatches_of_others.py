"""A dispatch is seen by whoever sees its campaign or its answer: an account may restrict its operators to their own."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

NARROWER = """
    CREATE POLICY narrower ON dispatch AS RESTRICTIVE FOR SELECT TO campaign_api_web USING (
        coalesce(current_setting('app.own_only', true), '') <> 'true'
        OR EXISTS (SELECT FROM campaign c WHERE c.account_id = dispatch.account_id AND c.id = dispatch.subject_id)
        OR EXISTS (SELECT FROM answer a WHERE a.account_id = dispatch.account_id AND a.dispatch_id = dispatch.id))
"""


def upgrade() -> None:
    for generation in ("projections_g1", "projections_g2"):
        op.execute(f"SET LOCAL search_path TO {generation}")
        op.execute(NARROWER)
    op.execute("SET LOCAL search_path TO projections")
