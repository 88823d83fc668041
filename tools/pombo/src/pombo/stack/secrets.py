"""Passwords and keys of one run folder: made once, kept in a file that only we can read."""

import base64
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from pombo.backing.folders import write_private


@dataclass(frozen=True, slots=True)
class Secrets:
    """`sealing_keys` and `token_keys` are "kid:key" as the services take them."""

    database_password: str
    sealing_keys: str
    token_keys: str
    verify_token: str
    login_password: str

    @classmethod
    def fresh(cls) -> "Secrets":
        return cls(
            database_password=secrets.token_urlsafe(24),
            sealing_keys=f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            token_keys=f"t1:{secrets.token_urlsafe(48)}",
            verify_token=secrets.token_urlsafe(24),
            login_password=secrets.token_urlsafe(9),
        )


def kept_secrets(file: Path) -> Secrets:
    """Those of the folder; sealed credentials in its database stay readable over any restart."""
    if not file.exists():
        write_private(file, json.dumps(asdict(Secrets.fresh())))
    return Secrets(**json.loads(file.read_text()))
