"""A page of a plan is its own outbox, and people are found by derived ids instead of by an index."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(_PLAN)
    op.execute(_BINDING)
    op.execute("DROP INDEX recipient_person")


_PLAN = """
-- `told`: what was planned from `page_from` to `position`, at `page_at`, is published. `planner`: the process that goes
-- on with it; others may from `due_at`.
ALTER TABLE plan ADD COLUMN told boolean NOT NULL DEFAULT true, ADD COLUMN page_from bigint NOT NULL DEFAULT -1,
    ADD COLUMN page_at timestamptz NOT NULL DEFAULT now(), ADD COLUMN planner uuid
"""
_BINDING = "ALTER TABLE binding ADD COLUMN bound_at timestamptz NOT NULL DEFAULT statement_timestamp()"
