"""Room for updates in place, an allocation's order in columns, and plans that always go by key."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# A message and its dispatch are written about five times within seconds, while all their neighbours are too: with this
# room the versions stay on the row's page, and no index is written again.
_FILLED = {"message": 60, "dispatch": 70, "recipient": 70}
# What batches find by another column than the key: by that column alone. Where the account leads every index, a plan
# made while a table looked empty may look all of an account's rows through, and is kept.
_BY_COLUMN = {
    "dispatch_recipient": "dispatch (recipient_id)",
    "reply_recipient": "reply (recipient_id)",
    "message_conversation": "message (conversation_id, at DESC, id DESC) WHERE conversation_id IS NOT NULL",
    "contact_alias_contact": "contact_alias (contact_id)",
}
_ENTER = """
    CREATE OR REPLACE FUNCTION enter_generation(component integer) RETURNS text
    LANGUAGE plpgsql VOLATILE AS $$
    DECLARE now_current text;
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(7290, 0);
        SELECT g.current INTO now_current FROM projections.generation g;
        PERFORM set_config('search_path', now_current || ', projections', true);
        PERFORM projections.go_by_key();
        -- Of the others' statements few run, and joins in their updates cannot be told their order.
        IF component > 0 THEN
            PERFORM set_config('plan_cache_mode', 'force_custom_plan', true);
        END IF;
        PERFORM pg_advisory_xact_lock(7291, component);
        RETURN now_current;
    END $$
"""


def upgrade() -> None:
    for generation in ("projections_g1", "projections_g2"):
        for table, percent in _FILLED.items():
            op.execute(f"ALTER TABLE {generation}.{table} SET (fillfactor = {percent})")
        for name, columns in _BY_COLUMN.items():
            op.execute(f"DROP INDEX {generation}.{name}")
            op.execute(f"CREATE INDEX {name} ON {generation}.{columns}")
        # Nobody asks for the records of a person: `person.contact_ids` names them.
        op.execute(f"DROP INDEX {generation}.contact_record_person")
        # All of an allocation's fields came with one event: one key orders them.
        op.execute(
            f"ALTER TABLE {generation}.allocation"
            " ALTER COLUMN keys TYPE uuid USING split_part(keys ->> 'instance_id', '|', 2)::uuid"
        )
        op.execute(f"ALTER TABLE {generation}.allocation RENAME COLUMN keys TO event_id")
    # Batches look rows up by key, whatever a plan of an empty table says.
    op.execute("""
        CREATE FUNCTION go_by_key() RETURNS void LANGUAGE sql VOLATILE AS $$
            SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
                set_config('enable_mergejoin', 'off', true)
        $$
    """)
    op.execute(_ENTER)
