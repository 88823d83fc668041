"""What can be set, with unit and default."""

from pydantic import AliasChoices, Field, SecretStr

from chassis.settings import SecretsSettings, ServiceSettings


class Settings(ServiceSettings):
    """webhook-ingest: the door that providers knock on."""

    secrets: SecretsSettings
    http_host: str = "127.0.0.1"
    http_port: int = 8081
    body_max_bytes: int = Field(
        3 * 1024 * 1024, description="larger webhooks are refused with 413 (Meta sends at most 3 MiB)"
    )
    publish_wait_s: float = Field(
        4.0,
        description="how long webhooks wait for Kafka before they go to the spool:"
        " less than the 10 s that Meta waits, more than Kafka takes on a busy machine",
    )
    spool_poll_s: float = Field(1.0, description="how often the spool is drained while it holds anything")
    directory_refresh_s: float = Field(1.0, description="how old the known instances and their key hashes may get")
    trust_traceparent: bool = Field(
        False, description="continue the caller's trace: only behind gateways that are ours"
    )
    verify_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("VERIFY_TOKEN", "WHATSAPP_VERIFY_TOKEN"),
        description="Meta's GET handshake for /api/webhook/meta; instances may have their own",
    )
    app_secrets: SecretStr | None = Field(
        None, description="comma-separated Meta app secrets of the installation, besides those of the instances"
    )
    translator_batch_max: int = 1000
