"""The tables of the read models, the same in both generations.

Only columns that never change are indexed (HOT updates). Texts that are compared have COLLATE "C": their order must
be the one that Python has.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

GENERATIONS = ("projections_g1", "projections_g2")

CAMPAIGN = """
    CREATE TABLE campaign (
        account_id uuid, id uuid, name text NOT NULL, status text NOT NULL, owner_id uuid, definition jsonb,
        scheduled_at timestamptz, started_at timestamptz, completed_at timestamptz, run_epoch integer NOT NULL,
        recipient_count integer, chunk_count integer, fail_reason text, fail_detail text, deleted boolean NOT NULL,
        created_by uuid, created_at timestamptz, updated_at timestamptz, keys jsonb NOT NULL,
        PRIMARY KEY (account_id, id)
    )
"""
RECIPIENT = """
    CREATE TABLE recipient (
        account_id uuid, id uuid, campaign_id uuid, source_event uuid, contact_id uuid, external_id text, phone text,
        name text, custom_fields jsonb, added_at timestamptz,
        state text NOT NULL DEFAULT 'pending', queued boolean NOT NULL DEFAULT false, reason text,
        delivery smallint NOT NULL DEFAULT 0, replied_at timestamptz, sent_at timestamptz, changed_at timestamptz,
        error text, tally integer[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0,0,0}',
        PRIMARY KEY (account_id, id)
    ) WITH (fillfactor = 85);
    CREATE INDEX recipient_campaign ON recipient (account_id, campaign_id, id)
"""
DISPATCH = """
    CREATE TABLE dispatch (
        account_id uuid, id uuid, subject_id uuid, recipient_id uuid, step integer, instance_id uuid,
        version integer NOT NULL DEFAULT -1, attempt integer NOT NULL DEFAULT 0, release integer NOT NULL DEFAULT 0,
        state text, reason text, due_at timestamptz, changed_at timestamptz,
        message_id uuid, sent_at timestamptz, delivery smallint NOT NULL DEFAULT 0, delivered_at timestamptz,
        read_at timestamptz, error_key text COLLATE "C" NOT NULL DEFAULT '', error text,
        PRIMARY KEY (account_id, id)
    ) WITH (fillfactor = 80);
    CREATE INDEX dispatch_recipient ON dispatch (account_id, recipient_id);
    CREATE INDEX dispatch_subject ON dispatch (account_id, subject_id, id)
"""
MESSAGE = """
    CREATE TABLE message (
        account_id uuid, id uuid, instance_id uuid, provider_message_id text,
        send_event uuid, sent_chat_id uuid, dispatch_id uuid, campaign_id uuid, recipient_id uuid, contact_id uuid,
        step integer, attempt integer, phone text, content jsonb, sent_at timestamptz,
        receive_event uuid, received_chat_id uuid, direction text, origin text, type text, text text, media jsonb,
        reply_to text, sender jsonb, profile_name text, details jsonb, message_at timestamptz, received_at timestamptz,
        edited_at timestamptz, edited_text text COLLATE "C", deleted_at timestamptz,
        delivery smallint NOT NULL DEFAULT 0, delivered_at timestamptz, read_at timestamptz,
        failed_at timestamptz, failure text COLLATE "C" NOT NULL DEFAULT '',
        code text COLLATE "C" NOT NULL DEFAULT '', detail text COLLATE "C" NOT NULL DEFAULT '', billable boolean,
        category text COLLATE "C",
        conversation_id uuid GENERATED ALWAYS AS (coalesce(sent_chat_id, received_chat_id)) STORED,
        at timestamptz GENERATED ALWAYS AS (greatest(sent_at, message_at)) STORED,
        PRIMARY KEY (account_id, id)
    ) WITH (fillfactor = 85);
    CREATE INDEX message_conversation ON message (account_id, conversation_id, at DESC, id DESC)
        WHERE conversation_id IS NOT NULL
"""
CONVERSATION = """
    CREATE TABLE conversation (
        account_id uuid, id uuid, instance_id uuid, contact_id uuid, phone text COLLATE "C", lid text COLLATE "C",
        bsuid text COLLATE "C", group_id text COLLATE "C", profile_name text COLLATE "C", profile_at timestamptz,
        first_at timestamptz, last_at timestamptz, last_message_id uuid, last_in_at timestamptz,
        last_out_at timestamptz, last_out_id uuid, last_campaign_at timestamptz,
        PRIMARY KEY (account_id, id)
    ) WITH (fillfactor = 80);
    CREATE INDEX conversation_recent ON conversation (account_id, last_at DESC, id DESC);
    CREATE TABLE conversation_desk (
        account_id uuid, id uuid, assignee_id uuid, state text NOT NULL, read_at timestamptz, updated_at timestamptz,
        keys jsonb NOT NULL,
        PRIMARY KEY (account_id, id)
    );
    CREATE TABLE answer (
        account_id uuid, dispatch_id uuid, conversation_id uuid, instance_id uuid, contact_id uuid, written_by uuid,
        written_at timestamptz, content jsonb, reply_to text,
        PRIMARY KEY (account_id, dispatch_id)
    );
    CREATE INDEX answer_conversation ON answer (account_id, conversation_id, written_at DESC, dispatch_id DESC);
    CREATE TABLE reply (
        account_id uuid, message_id uuid, conversation_id uuid, recipient_id uuid, replied_at timestamptz NOT NULL,
        PRIMARY KEY (account_id, message_id)
    );
    CREATE INDEX reply_recipient ON reply (account_id, recipient_id)
"""
COUNTERS = """
    CREATE TABLE campaign_counter (
        account_id uuid, campaign_id uuid, measure text COLLATE "C", reason text COLLATE "C", value bigint NOT NULL,
        PRIMARY KEY (account_id, campaign_id, measure, reason)
    ) WITH (fillfactor = 50);
    CREATE TABLE volume (
        account_id uuid, scope text, scope_id uuid, quarter timestamptz, measure text, value bigint NOT NULL,
        PRIMARY KEY (account_id, scope, scope_id, quarter, measure)
    ) WITH (fillfactor = 50)
"""
INSTANCE = """
    CREATE TABLE instance (
        account_id uuid, id uuid, name text NOT NULL, provider text, server_url text, phone_number text,
        phone_number_id text, gateway_instance text, portfolio_id text, webhook_url text, status text NOT NULL,
        is_active boolean NOT NULL, is_default boolean NOT NULL, max_users integer NOT NULL, tier text, limits jsonb,
        deleted boolean NOT NULL, owner_id uuid, created_at timestamptz, updated_at timestamptz,
        connection text NOT NULL, connection_reason text, connected_phone text, qr_code text, pairing_code text,
        banned_at timestamptz, banned_reason text, throttled_mps double precision, breaker text NOT NULL,
        breaker_reason text, breaker_until timestamptz, measured_tier text, measured_unique_per_24h integer,
        measured_mps double precision, quality text, last_event_at timestamptz, keys jsonb NOT NULL,
        PRIMARY KEY (account_id, id)
    )
"""
CONTACT = """
    CREATE TABLE contact_record (
        account_id uuid, id uuid, person_id uuid NOT NULL, name text NOT NULL, external_id text, source text,
        tags jsonb NOT NULL, funnel_stage text, custom_fields jsonb NOT NULL, phone text, lid text, bsuid text,
        group_id text, opted_out boolean NOT NULL, opt_out_reason text, erased boolean NOT NULL,
        created_at timestamptz, updated_at timestamptz, keys jsonb NOT NULL,
        PRIMARY KEY (account_id, id)
    );
    CREATE INDEX contact_record_person ON contact_record (account_id, person_id);
    CREATE TABLE contact_alias (
        account_id uuid, alias text, contact_id uuid,
        PRIMARY KEY (account_id, alias, contact_id)
    );
    CREATE INDEX contact_alias_contact ON contact_alias (account_id, contact_id);
    CREATE TABLE person (
        account_id uuid, id uuid, name text NOT NULL, external_id text, source text, tags text[] NOT NULL,
        funnel_stage text, custom_fields jsonb NOT NULL, phone text, lid text, bsuid text, group_id text,
        aliases text[] NOT NULL, contact_ids uuid[] NOT NULL, opted_out boolean NOT NULL, opt_out_reason text,
        created_at timestamptz, updated_at timestamptz,
        PRIMARY KEY (account_id, id)
    );
    CREATE INDEX person_created ON person (account_id, created_at DESC, id);
    CREATE TABLE allocation (
        account_id uuid, id uuid, instance_id uuid NOT NULL, from_instance_id uuid, recipient_key text,
        allocated_at timestamptz, keys jsonb NOT NULL,
        PRIMARY KEY (account_id, id)
    );
    CREATE INDEX allocation_instance ON allocation (account_id, instance_id)
"""
DIRECTORY = """
    CREATE TABLE account (
        account_id uuid, id uuid, name text NOT NULL, country text, time_zone text, created_at timestamptz,
        updated_at timestamptz, keys jsonb NOT NULL,
        PRIMARY KEY (account_id, id)
    );
    CREATE TABLE app_user (
        account_id uuid, id uuid, email text, name text NOT NULL, role text, active boolean NOT NULL,
        created_at timestamptz, updated_at timestamptz, keys jsonb NOT NULL,
        PRIMARY KEY (account_id, id)
    );
    CREATE TABLE product (
        account_id uuid, id uuid, name text NOT NULL, description text, price_cents integer, details jsonb NOT NULL,
        deleted boolean NOT NULL, created_at timestamptz, updated_at timestamptz, keys jsonb NOT NULL,
        PRIMARY KEY (account_id, id)
    )
"""
RESOLUTION = """
    CREATE TABLE resolution (
        account_id uuid, event_id uuid, conversation_id uuid, resolved_by uuid, resolved_at timestamptz NOT NULL,
        PRIMARY KEY (account_id, event_id)
    );
    CREATE INDEX resolution_conversation ON resolution (account_id, conversation_id, resolved_at)
"""
TABLES = (CAMPAIGN, RECIPIENT, DISPATCH, MESSAGE, CONVERSATION, COUNTERS, INSTANCE, CONTACT, DIRECTORY, RESOLUTION)


def upgrade() -> None:
    for generation in GENERATIONS:
        op.execute(f"SET LOCAL search_path TO {generation}")
        for tables in TABLES:
            op.execute(tables)
    op.execute("SET LOCAL search_path TO projections")
