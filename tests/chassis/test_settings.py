"""chassis.settings: what is missing or wrong is named, never shown."""

import pytest
from pydantic import ValidationError

from chassis.settings import KafkaSettings, MigrateSettings, ServiceSettings, load


class Some(ServiceSettings):
    tick_s: float = 1.0


def test_variables_are_read_by_block_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA__BOOTSTRAP", "broker:9092")
    monkeypatch.setenv("KAFKA__PARTITIONS_MAX", "3")
    monkeypatch.setenv("POSTGRES__DSN", "postgresql://worker:pw@host/pombo")
    monkeypatch.setenv("TELEMETRY__SAMPLE_RATIO", "1")
    monkeypatch.setenv("TICK_S", "0.5")
    settings = load(Some)
    assert (settings.kafka.bootstrap, settings.kafka.partitions_max, settings.tick_s) == ("broker:9092", 3, 0.5)
    assert settings.telemetry.sample_ratio == 1
    assert "pw" not in repr(settings)


def test_each_missing_or_wrong_variable_is_named_and_no_value_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KAFKA__BOOTSTRAP", "POSTGRES__DSN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("POSTGRES__DSNN", "postgresql://worker:hunter2@host/pombo")
    monkeypatch.setenv("HEALTH__PORT", "hunter3")
    with pytest.raises(SystemExit) as stopped:
        load(Some)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    for name in ("KAFKA", "POSTGRES__DSN:", "POSTGRES__DSNN", "HEALTH__PORT"):
        assert name in told
    assert "hunter" not in told


def test_migrate_asks_for_the_owner_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTGRES__DSN", raising=False)
    monkeypatch.setenv("KAFKA__BOOTSTRAP", "broker:9092")
    monkeypatch.setenv("MIGRATION__OWNER_DSN", "postgresql://owner@host/pombo")
    assert load(MigrateSettings).migration.owner_dsn.get_secret_value().startswith("postgresql://owner")


def test_settings_do_not_change() -> None:
    settings = KafkaSettings(bootstrap="x")
    with pytest.raises(ValidationError):
        settings.bootstrap = "y"  # type: ignore[misc]
