"""Signing in, refreshing, signing out: what a family of refresh tokens goes through."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from campaign_api.door.principal import Principal, Role
from campaign_api.door.problems import Problem
from campaign_api.identity import store
from campaign_api.identity.passwords import Passwords
from campaign_api.identity.tokens import (
    API_KEY_PREFIX,
    BadToken,
    Claims,
    TokenKeys,
    fresh_secret,
    secret_hash,
)
from campaign_api.settings import Settings
from chassis.database import Database

WRONG = "E-mail or password is wrong"
ADDRESS_FACTOR = 10
SIGN_IN_BURST = 10


@dataclass(frozen=True, slots=True)
class Session:
    access_token: str
    refresh_token: str
    account_id: UUID
    user_id: UUID
    role: Role
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Sessions:
    """Runs as the worker's role: nobody is known before a credential was checked."""

    database: Database
    passwords: Passwords
    tokens: TokenKeys
    settings: Settings

    async def authenticate(self, credential: str, address: str | None) -> Principal | None:
        """Of a bearer's token or API key; None where it is not valid."""
        if credential.startswith(API_KEY_PREFIX):
            async with self.database.transaction() as connection:
                key = await store.find_api_key(connection, secret_hash(credential))
            if key is None:
                return None
            return Principal(key["account_id"], key["id"], key["role"], "api_key", address)
        try:
            claims = self.tokens.verify(credential)
        except BadToken:
            return None
        return Principal(claims.account_id, claims.user_id, claims.role, "user", address, claims.own_only)

    async def sign_in(self, email: str, password: str, address: str | None, now: datetime) -> Session:
        """The same answer, after the same time, whether the address or the password is wrong."""
        await self._count(email, address)
        async with self.database.transaction() as connection:
            person = await store.find_by_email(connection, email)
        stored = person["password_hash"] if person and person["active"] else None
        if not await self.passwords.verify(stored, password) or person is None:
            raise Problem(401, WRONG)
        rehashed = await self.passwords.hash(password) if self.passwords.needs_rehash(person["password_hash"]) else None
        family_id, refresh_token = uuid4(), fresh_secret()
        expires_at = now + timedelta(seconds=self.settings.refresh_token_s)
        account_id, user_id = person["account_id"], person["user_id"]
        async with self.database.transaction() as connection:
            if rehashed:
                await store.replace_hash(connection, account_id, user_id, rehashed)
            await store.open_family(connection, account_id, user_id, family_id, now, expires_at)
            await store.add_token(connection, account_id, family_id, secret_hash(refresh_token), expires_at)
        return self._session(refresh_token, person, family_id, now)

    async def refresh(self, refresh_token: str, now: datetime) -> Session:
        """Uses the token up. A token used twice was stolen or copied: its whole family ends."""
        reused = False
        async with self.database.transaction() as connection:
            row = await store.token_for_update(connection, secret_hash(refresh_token))
            if row is None or row["revoked_at"] or row["expires_at"] <= now or not row["active"]:
                raise Problem(401, "The refresh token is not valid: sign in again")
            if row["used_at"] is not None:
                await store.revoke_family(connection, row["family_id"], "reuse", now)
                reused = True
            else:
                fresh = fresh_secret()
                await store.use_token(connection, secret_hash(refresh_token), now)
                await store.add_token(
                    connection, row["account_id"], row["family_id"], secret_hash(fresh), row["expires_at"]
                )
        if reused:
            raise Problem(401, "The refresh token is not valid: sign in again")
        return self._session(fresh, row, row["family_id"], now)

    async def sign_out(self, refresh_token: str, now: datetime) -> None:
        async with self.database.transaction() as connection:
            row = await store.token_for_update(connection, secret_hash(refresh_token))
            if row is not None:
                await store.revoke_family(connection, row["family_id"], "sign_out", now)

    async def _count(self, email: str, address: str | None) -> None:
        interval_s = 60 / self.settings.sign_ins_per_minute
        async with self.database.transaction() as connection:
            allowed = await store.take_sign_in(connection, f"email:{email.lower()}", interval_s, SIGN_IN_BURST)
            if address and allowed:
                allowed = await store.take_sign_in(
                    connection, f"ip:{address}", interval_s / ADDRESS_FACTOR, SIGN_IN_BURST * ADDRESS_FACTOR
                )
        if not allowed:
            raise Problem(429, "Too many attempts to sign in: wait a minute", headers={"Retry-After": "60"})

    def _session(self, refresh_token: str, person: store.Row, family_id: UUID, now: datetime) -> Session:
        lifetime = timedelta(seconds=self.settings.access_token_s)
        account_id, user_id, role = person["account_id"], person["user_id"], person["role"]
        claims = Claims(account_id, user_id, role, family_id, person["own_only"])
        access_token = self.tokens.sign(claims, now=now, lifetime=lifetime)
        return Session(access_token, refresh_token, account_id, user_id, role, person["name"], person["email"])
