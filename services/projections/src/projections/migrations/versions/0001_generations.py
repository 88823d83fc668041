"""Two generations of the read models, which of them is current, and how the views are moved to the other."""

from alembic import op

from chassis.inbox import create_offsets

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in create_offsets():
        op.execute(statement)
    op.execute("""
        CREATE TABLE generation (
            only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
            current text NOT NULL CHECK (current IN ('projections_g1', 'projections_g2'))
        )
    """)
    op.execute("INSERT INTO generation (current) VALUES ('projections_g1')")
    op.execute("CREATE TABLE analyst_account (role_name text PRIMARY KEY, account_id uuid NOT NULL)")
    op.execute("REVOKE ALL ON analyst_account FROM PUBLIC, campaign_api_web")
    # A policy passes current_user in: inside a SECURITY DEFINER function it would be the owner.
    op.execute("""
        CREATE FUNCTION account_of_analyst(asking name) RETURNS uuid
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$ SELECT a.account_id FROM projections.analyst_account a WHERE a.role_name = asking $$
    """)
    # Every live batch begins with this: it cannot run while a rebuild swaps generations, sees the current one,
    # and is the only writer of its component (0 timeline, 1 contacts, 2 instances), so rows need no other locks.
    op.execute("""
        CREATE FUNCTION enter_generation(component integer) RETURNS text
        LANGUAGE plpgsql VOLATILE AS $$
        DECLARE now_current text;
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(7290, 0);
            SELECT g.current INTO now_current FROM projections.generation g;
            PERFORM set_config('search_path', now_current || ', projections', true);
            PERFORM pg_advisory_xact_lock(7291, component);
            RETURN now_current;
        END $$
    """)
    # The worker may not make views; the owner's function repoints each published view, in the caller's transaction.
    op.execute("""
        CREATE FUNCTION show_generation(shown text) RETURNS void
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        DECLARE published record;
        BEGIN
            IF shown NOT IN ('projections_g1', 'projections_g2') THEN
                RAISE EXCEPTION 'no such generation: %', shown;
            END IF;
            FOR published IN
                SELECT c.relname FROM pg_class c
                WHERE c.relnamespace = shown::regnamespace AND c.relkind = 'v' ORDER BY c.relname
            LOOP
                EXECUTE format('CREATE OR REPLACE VIEW projections.%I WITH (security_invoker = true) AS '
                    'SELECT * FROM %I.%I', published.relname, shown, published.relname);
                EXECUTE format('GRANT SELECT ON projections.%I TO campaign_api_web, analyst, projections_worker',
                    published.relname);
            END LOOP;
            UPDATE projections.generation SET current = shown;
        END $$
    """)
    # Run by the owner: from then on the login role, a member of `analyst`, reads this account's rows and no others.
    op.execute("""
        CREATE FUNCTION admit_analyst(role_name name, account_id uuid) RETURNS void
        LANGUAGE sql AS $$
            INSERT INTO projections.analyst_account (role_name, account_id) VALUES ($1, $2)
            ON CONFLICT (role_name) DO UPDATE SET account_id = excluded.account_id
        $$
    """)
    op.execute("REVOKE ALL ON FUNCTION admit_analyst(name, uuid) FROM PUBLIC")
    op.execute("REVOKE ALL ON FUNCTION show_generation(text) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION show_generation(text) TO projections_worker")
