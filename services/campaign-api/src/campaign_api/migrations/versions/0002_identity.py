"""Accounts, users, refresh tokens, API keys."""

from alembic import op

from chassis.database import TENANT_POLICY

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE account (
  account_id uuid PRIMARY KEY,
  name text NOT NULL,
  country text NOT NULL DEFAULT 'BR',
  time_zone text NOT NULL DEFAULT 'America/Sao_Paulo',
  stop_words text[] NOT NULL DEFAULT ARRAY['SAIR', 'PARAR', 'STOP', 'CANCELAR', 'DESCADASTRAR', 'UNSUBSCRIBE'],
  operators_restricted boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL
);

CREATE TABLE app_user (
  account_id uuid NOT NULL REFERENCES account,
  id uuid NOT NULL,
  email text NOT NULL,
  name text NOT NULL,
  role text NOT NULL CHECK (role IN ('operator', 'supervisor', 'admin')),
  password_hash text NOT NULL,
  active boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, id)
);
CREATE UNIQUE INDEX app_user_email ON app_user (lower(email));

-- A family is one sign-in; every refresh uses up one token of it and makes the next.
CREATE TABLE refresh_family (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz,
  revoked_because text,
  PRIMARY KEY (account_id, id),
  FOREIGN KEY (account_id, user_id) REFERENCES app_user ON DELETE CASCADE,
  CHECK ((revoked_at IS NULL) = (revoked_because IS NULL))
);

CREATE TABLE refresh_token (
  account_id uuid NOT NULL,
  token_hash bytea NOT NULL,
  family_id uuid NOT NULL,
  expires_at timestamptz NOT NULL,
  used_at timestamptz,
  PRIMARY KEY (account_id, token_hash),
  FOREIGN KEY (account_id, family_id) REFERENCES refresh_family ON DELETE CASCADE
);
CREATE UNIQUE INDEX refresh_token_hash ON refresh_token (token_hash);

CREATE TABLE api_key (
  account_id uuid NOT NULL REFERENCES account,
  id uuid NOT NULL,
  name text NOT NULL,
  key_hash bytea NOT NULL UNIQUE,
  hint text NOT NULL,
  role text NOT NULL CHECK (role IN ('operator', 'supervisor', 'admin')),
  created_by uuid,
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  revoked_at timestamptz,
  PRIMARY KEY (account_id, id)
);

-- GCRA by email and by address; nobody is signed in yet, so no account.
CREATE TABLE sign_in_rate (
  key text PRIMARY KEY,
  theoretical_arrival timestamptz NOT NULL
);
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("account", "app_user", "refresh_family", "refresh_token", "api_key"):
        for statement in TENANT_POLICY(table):
            op.execute(statement)
    op.execute("REVOKE ALL ON refresh_family, refresh_token, sign_in_rate FROM campaign_api_web")
    op.execute("GRANT UPDATE (revoked_at, revoked_because) ON refresh_family TO campaign_api_web")
    op.execute("GRANT SELECT (account_id, id, user_id, revoked_at) ON refresh_family TO campaign_api_web")
    op.execute("REVOKE INSERT, DELETE ON account FROM campaign_api_web")
    op.execute("REVOKE SELECT, DELETE ON app_user FROM campaign_api_web")
    op.execute(
        "GRANT SELECT (account_id, id, email, name, role, active, created_at, updated_at)"
        " ON app_user TO campaign_api_web"
    )
    op.execute("REVOKE SELECT, DELETE ON api_key FROM campaign_api_web")
    op.execute(
        "GRANT SELECT (account_id, id, name, hint, role, created_by, created_at, expires_at, revoked_at)"
        " ON api_key TO campaign_api_web"
    )
