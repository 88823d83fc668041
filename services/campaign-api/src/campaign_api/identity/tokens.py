"""Access tokens (JWT, HS256 only, known key ids only) and the secrets of refresh tokens and API keys. Pure but for
`fresh_secret`'s randomness."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import jwt

from campaign_api.door.principal import RANK, Role

ALGORITHM = "HS256"
AUDIENCE = "campaign-api"
KEY_MIN_BYTES = 32
API_KEY_PREFIX = "pombo_"
LEEWAY_S = 5


class BadToken(Exception):
    """The access token is not valid (any more): refresh it or sign in again."""


@dataclass(frozen=True, slots=True)
class Claims:
    account_id: UUID
    user_id: UUID
    role: Role
    family_id: UUID
    own_only: bool = False


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The first key signs, all of them verify: rotation adds one in front and drops the last after 15 minutes."""

    keys: Mapping[str, bytes]
    issuer: str

    @classmethod
    def read(cls, text: str, issuer: str) -> "TokenKeys":
        keys: dict[str, bytes] = {}
        for part in text.split(","):
            key_id, separator, key = part.strip().partition(":")
            if not separator or len(key.encode()) < KEY_MIN_BYTES:
                raise ValueError(
                    f"TOKEN_KEYS: key {key_id!r} must be kid:key with a key of {KEY_MIN_BYTES} bytes or more"
                )
            keys[key_id] = key.encode()
        return cls(keys, issuer)

    def sign(self, claims: Claims, *, now: datetime, lifetime: timedelta) -> str:
        key_id, key = next(iter(self.keys.items()))
        payload = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": str(claims.user_id),
            "acc": str(claims.account_id),
            "role": claims.role,
            "sid": str(claims.family_id),
            "own": claims.own_only,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
        }
        return jwt.encode(payload, key, ALGORITHM, headers={"kid": key_id})

    def verify(self, token: str) -> Claims:
        """Raises BadToken. The time is compared by the JWT library, with a few seconds of leeway."""
        try:
            key = self.keys[jwt.get_unverified_header(token)["kid"]]
            payload: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "nbf", "sub", "aud", "iss"]},
            )
            if payload["role"] not in RANK:
                raise BadToken("role")
            return Claims(
                UUID(payload["acc"]),
                UUID(payload["sub"]),
                cast("Role", payload["role"]),
                UUID(payload["sid"]),
                payload.get("own") is True,
            )
        except (jwt.PyJWTError, KeyError, ValueError, TypeError) as error:
            raise BadToken(type(error).__name__) from error


def fresh_secret(prefix: str = "") -> str:
    """256 random bits: nothing that could be guessed, so a plain SHA-256 of it may be stored."""
    return prefix + secrets.token_urlsafe(32)


def secret_hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
