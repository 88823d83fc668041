"""The names under which one person is known, and people who were erased."""

from alembic import op

from chassis.database import TENANT_POLICY

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute(_ALIAS)
    op.execute(_ERASED)
    for statement in TENANT_POLICY("alias"):
        op.execute(statement)


_ALIAS = """
-- `person`: the smallest of the names that are one person's. Only who has several is here.
CREATE TABLE alias (
    account_id uuid NOT NULL,
    recipient_key text NOT NULL,
    person text NOT NULL,
    PRIMARY KEY (account_id, recipient_key)
);
CREATE INDEX alias_person ON alias (account_id, person);
-- False: another name of the same person is counted.
ALTER TABLE binding ADD COLUMN counted boolean NOT NULL DEFAULT true;
"""
_ERASED = """
ALTER TABLE recipient ADD COLUMN erased boolean NOT NULL DEFAULT false;
-- Whose address is still needed, because something is out.
CREATE INDEX recipient_erased ON recipient (recipient_id) WHERE erased AND phone <> '';
"""
