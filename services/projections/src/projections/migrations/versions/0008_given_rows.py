"""The rows that a batch hands over, one type a table: a list of them costs half of what a list a column does."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# In the order of the columns that the statements insert, and of the fields of their tuples.
GIVEN = {
    "given_outbound": """account_id uuid, id uuid, instance_id uuid, provider_message_id text, send_event uuid,
        sent_chat_id uuid, dispatch_id uuid, campaign_id uuid, recipient_id uuid, contact_id uuid, step integer,
        attempt integer, phone text, content jsonb, sent_at timestamptz, delivery integer, delivered_at timestamptz,
        read_at timestamptz, failed_at timestamptz, failure text, code text, detail text, billable boolean,
        category text""",
    "given_inbound": """account_id uuid, id uuid, instance_id uuid, provider_message_id text, receive_event uuid,
        received_chat_id uuid, direction text, origin text, type text, text text, media jsonb, reply_to text,
        sender jsonb, profile_name text, details jsonb, message_at timestamptz, received_at timestamptz,
        delivery integer""",
    "given_edit": """account_id uuid, id uuid, instance_id uuid, provider_message_id text, edited_at timestamptz,
        edited_text text, deleted_at timestamptz""",
    "given_sighting": """account_id uuid, id uuid, instance_id uuid, contact_id uuid, phone text, lid text, bsuid text,
        group_id text, profile_name text, profile_at timestamptz, first_at timestamptz, last_at timestamptz,
        last_message_id uuid, last_in_at timestamptz, last_out_at timestamptz, last_out_id uuid,
        last_campaign_at timestamptz""",
    "given_answer": """account_id uuid, dispatch_id uuid, conversation_id uuid, instance_id uuid, contact_id uuid,
        written_by uuid, written_at timestamptz, content jsonb, reply_to text""",
    "given_resolution": """account_id uuid, event_id uuid, conversation_id uuid, resolved_by uuid,
        resolved_at timestamptz""",
    "given_dispatch": """account_id uuid, id uuid, subject_id uuid, recipient_id uuid, step integer, instance_id uuid,
        version integer, attempt integer, release integer, state text, reason text, due_at timestamptz,
        changed_at timestamptz, message_id uuid, sent_at timestamptz, delivery integer, delivered_at timestamptz,
        read_at timestamptz, error_key text, error text""",
    "given_recipient": """account_id uuid, id uuid, campaign_id uuid, source_event uuid, contact_id uuid,
        external_id text, phone text, name text, custom_fields jsonb, added_at timestamptz""",
    "given_allocation": """account_id uuid, id uuid, instance_id uuid, from_instance_id uuid, recipient_key text,
        allocated_at timestamptz, event_id uuid""",
    "given_place": "account_id uuid, id uuid",
}


def upgrade() -> None:
    for name, columns in GIVEN.items():
        op.execute(f"CREATE TYPE {name} AS ({columns})")
