"""What can be set: frozen blocks that a service composes into its one `Settings` class. No instance lives here."""

import sys
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Block):
    """`partitions_max` caps the production counts of contracts.topics on small machines.

    `group_instance_id`: static membership (a StatefulSet's pod name); None = a new member at every start.
    """

    bootstrap: str = Field(description="host:port of one or more brokers, comma separated")
    partitions_max: int = Field(64, ge=1)
    replication_factor: int = Field(1, ge=1)
    group_instance_id: str | None = None
    session_timeout_ms: int = Field(6000, ge=1000)
    linger_ms: int = Field(20, ge=0, description="how long a record may wait for others of its partition")


class PostgresSettings(_Block):
    """`dsn` is that of the role the process runs as (…_worker), never the owner's."""

    dsn: SecretStr
    pool_size: int = Field(8, ge=1)


class MigrationSettings(_Block):
    """`owner_dsn`: the role that owns the schema; only `migrate` has it."""

    owner_dsn: SecretStr


class TelemetrySettings(_Block):
    """`sample_ratio` of new traces is recorded; `spans_file` gets one JSON object a line, `otlp_endpoint` OTLP/HTTP."""

    log_level: str = "INFO"
    sample_ratio: float = Field(0.01, ge=0, le=1)
    spans_file: Path | None = None
    otlp_endpoint: str | None = None


class HealthSettings(_Block):
    """Where /health, /ready and /metrics are answered; port 0 = any free one (it is logged)."""

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)


class SecretsSettings(_Block):
    """`keys`: "kid:base64key[,kid2:…]" of 32 bytes each; the first one seals, all of them open."""

    keys: SecretStr


class _Environment(BaseSettings):
    model_config = SettingsConfigDict(env_nested_delimiter="__", frozen=True, extra="forbid")


class ServiceSettings(_Environment):
    """What every service needs to run. Variables: KAFKA__BOOTSTRAP, POSTGRES__DSN, TELEMETRY__LOG_LEVEL, …"""

    kafka: KafkaSettings
    postgres: PostgresSettings
    telemetry: TelemetrySettings = TelemetrySettings()
    health: HealthSettings = HealthSettings()


class MigrateSettings(_Environment):
    """What `migrate` needs: MIGRATION__OWNER_DSN and KAFKA__BOOTSTRAP."""

    kafka: KafkaSettings
    migration: MigrationSettings
    telemetry: TelemetrySettings = TelemetrySettings()


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S]) -> S:
    """Reads the environment once. Exits with 2, naming each missing or wrong variable, never its value."""
    try:
        return settings()
    except ValidationError as error:
        prefix = settings.model_config.get("env_prefix", "")
        sys.stderr.write("Settings are missing or wrong:\n")
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            name = prefix + "__".join(str(part) for part in problem["loc"])
            sys.stderr.write(f"  {name.upper()}: {problem['msg']}\n")
        raise SystemExit(2) from None
