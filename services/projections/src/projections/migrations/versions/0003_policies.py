"""Who may see which rows: row-level security on every table of both generations, and the worker's grants."""
# ruff: noqa: S608  the statements are made of constants of this file

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Fail closed: without app.account_id no row is visible. An operator (app.role) sees conversations assigned to nobody
# or to app.user_id; with app.own_only = 'true' only the campaigns and instances that app.user_id owns, or nobody.
_OWN_ACCOUNT = "account_id = nullif(current_setting('app.account_id', true), '')::uuid"
_ME = "nullif(current_setting('app.user_id', true), '')::uuid"
_NOT_OPERATOR = "coalesce(current_setting('app.role', true), '') <> 'operator'"
_SEES_ALL_OWNERS = "coalesce(current_setting('app.own_only', true), '') <> 'true'"


def _not_others(conversation: str) -> str:
    return (
        f"({_NOT_OPERATOR} OR {conversation} IS NULL OR NOT EXISTS (SELECT FROM conversation_desk d "
        f"WHERE d.account_id = {{table}}.account_id AND d.id = {conversation} AND d.assignee_id IS NOT NULL "
        f"AND d.assignee_id IS DISTINCT FROM {_ME}))"
    )


_OWNED = f"({_SEES_ALL_OWNERS} OR owner_id IS NULL OR owner_id = {_ME})"
_OF_OWNED = (
    f"({_SEES_ALL_OWNERS} OR EXISTS (SELECT FROM campaign c WHERE c.account_id = {{table}}.account_id "
    f"AND c.id = {{table}}.{{column}}))"
)
NARROWER = {
    "conversation": _not_others("conversation.id").format(table="conversation"),
    "message": _not_others("message.conversation_id").format(table="message"),
    "answer": _not_others("answer.conversation_id").format(table="answer"),
    "reply": _not_others("reply.conversation_id").format(table="reply"),
    "resolution": _not_others("resolution.conversation_id").format(table="resolution"),
    "campaign": _OWNED,
    "instance": _OWNED,
    "recipient": _OF_OWNED.format(table="recipient", column="campaign_id"),
    "campaign_counter": _OF_OWNED.format(table="campaign_counter", column="campaign_id"),
}

_SECURE = """
    DO $$
    DECLARE secured record;
    BEGIN
        FOR secured IN
            SELECT c.relname FROM pg_class c
            WHERE c.relnamespace = '{generation}'::regnamespace AND c.relkind = 'r' ORDER BY c.relname
        LOOP
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', secured.relname);
            EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', secured.relname);
            EXECUTE format('CREATE POLICY web ON %I FOR SELECT TO campaign_api_web USING ({own})', secured.relname);
            EXECUTE format('CREATE POLICY analyst ON %I FOR SELECT TO analyst '
                'USING (account_id = (SELECT projections.account_of_analyst(current_user)))', secured.relname);
            EXECUTE format('CREATE POLICY worker ON %I TO projections_worker USING (true) WITH CHECK (true)',
                secured.relname);
            EXECUTE format('GRANT SELECT ON %I TO campaign_api_web, analyst', secured.relname);
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON %I TO projections_worker',
                secured.relname);
        END LOOP;
    END $$
"""


def upgrade() -> None:
    for generation in ("projections_g1", "projections_g2"):
        op.execute(f"SET LOCAL search_path TO {generation}")
        op.execute(_SECURE.format(generation=generation, own=_OWN_ACCOUNT.replace("'", "''")))
        for table, condition in NARROWER.items():
            op.execute(
                f"CREATE POLICY narrower ON {table} AS RESTRICTIVE FOR SELECT TO campaign_api_web USING ({condition})"
            )
    op.execute("SET LOCAL search_path TO projections")
