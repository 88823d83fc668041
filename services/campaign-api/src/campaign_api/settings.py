"""What can be set, with unit and default."""

from pydantic import AliasChoices, Field, SecretStr

from chassis.settings import MigrateSettings, SecretsSettings, ServiceSettings


class Settings(ServiceSettings):
    """POSTGRES__DSN is the worker's role, WEB_DSN that of requests (row-level security applies to it)."""

    web_dsn: SecretStr = Field(description="the role campaign_api_web")
    web_pool_size: int = Field(12, ge=2)
    secrets: SecretsSettings
    token_keys: SecretStr = Field(description="kid:key[,kid2:key2] that sign access tokens; the first one signs")
    token_issuer: str = "pombo"
    access_token_s: int = Field(900, ge=1, le=900)
    refresh_token_s: int = Field(30 * 86_400, ge=60)
    http_host: str = "127.0.0.1"
    http_port: int = Field(8000, ge=0, le=65535)
    public_url: str = Field("http://127.0.0.1:8080", description="where providers reach webhook-ingest")
    evolution_api_url: str | None = Field(
        None,
        validation_alias=AliasChoices("evolution_api_url", "next_public_evolution_api_url"),
        description="the installation's own gateway, for instances that are made by connecting them",
    )
    evolution_api_key: SecretStr | None = None
    cors_origins: tuple[str, ...] = ()
    sign_up: bool = Field(False, description="whether POST /api/accounts makes an account for anybody")
    secure_cookies: bool = True
    sign_ins_per_minute: float = Field(
        10, gt=0, description="for one e-mail address; ten times that for one IP address"
    )
    requests_per_second: float = Field(50, gt=0, description="for one account, bursts of four seconds' worth")
    json_max_bytes: int = 24 * 1024 * 1024
    upload_max_bytes: int = 128 * 1024 * 1024
    upload_kept_s: int = 86_400
    idempotency_kept_s: int = 86_400
    import_rows_max: int = 1_000_000
    pause_wait_s: float = 2.0
    answer_wait_s: float = 2.0
    drain_s: float = Field(15.0, description="how long open requests may take after the signal to stop")
    housekeeping_s: float = 60.0


class MigrationRun(MigrateSettings):
    """What `migrate` needs."""
