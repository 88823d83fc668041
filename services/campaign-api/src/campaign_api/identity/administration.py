"""Users, API keys and the audit log, for administrators."""

from uuid import UUID

from asyncpg import UniqueViolationError
from fastapi import APIRouter

from campaign_api.door import audit, cursors
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, NewId
from campaign_api.door.principal import RANK, Admin, Operator
from campaign_api.door.problems import Problem, not_found, responses
from campaign_api.identity import directory, store
from campaign_api.identity.models import (
    Account,
    AccountChange,
    ApiKey,
    AuditEntry,
    NewApiKey,
    NewUser,
    User,
    UserChange,
)
from campaign_api.identity.tokens import API_KEY_PREFIX, fresh_secret, secret_hash
from chassis.database import driver
from contracts.directory import AccountSaved, UserSaved

router = APIRouter(prefix="/api", tags=["administration"], route_class=IdempotentRoute)


@router.get("/account", responses=responses(404))
async def account(principal: Operator, parts: Here) -> Account:
    """The company's own settings."""
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        row = await store.account(connection)
    if row is None:
        raise not_found("Account")
    return Account(**row)


@router.patch("/account", responses=responses(404))
async def change_account(body: AccountChange, principal: Admin, parts: Here) -> Account:
    """Takes effect for people who are signed in with their next token, within fifteen minutes."""
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        await store.lock_account(connection)
        row = await store.account(connection)
        if row is None:
            raise not_found("Account")
        changed = dict(row) | body.model_dump(exclude_none=True)
        await store.change_account(connection, changed)
        saved = AccountSaved(**{name: changed[name] for name in ("name", "country", "time_zone")})
        await directory.publish(connection, principal.account_id, principal.account_id, saved, now)
        details = body.model_dump(exclude_none=True)
        await audit.note(connection, principal, "account.change", str(principal.account_id), now=now, details=details)
    return Account(**changed)


@router.get("/users", responses=responses(400))
async def list_users(
    principal: Admin,
    parts: Here,
    page: cursors.Hundred,
) -> list[User]:
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        rows = await store.users(connection, page.after_moment(), page.fetched)
    return [User(**row) for row in page.cut(rows, "created_at", "id")]


@router.post("/users", status_code=201, responses=responses(409))
async def create_user(body: NewUser, principal: Admin, parts: Here, user_id: NewId) -> User:
    now = parts.now()
    password_hash = await parts.passwords.hash(body.password)
    try:
        async with parts.web.transaction(account_id=principal.account_id) as connection:
            await store.insert_user(
                connection,
                principal.account_id,
                user_id,
                email=body.email,
                name=body.name,
                role=body.role,
                password_hash=password_hash,
                now=now,
            )
            person = UserSaved(email=body.email, name=body.name, role=body.role)
            await directory.publish(connection, principal.account_id, user_id, person, now)
            await audit.note(connection, principal, "user.create", str(user_id), now=now, details={"role": body.role})
    except UniqueViolationError as error:
        raise Problem(409, "Somebody has this e-mail address already") from error
    return User(
        id=user_id, email=body.email, name=body.name, role=body.role, active=True, created_at=now, updated_at=now
    )


@router.patch("/users/{user_id}", responses=responses(404, 409))
async def change_user(user_id: UUID, body: UserChange, principal: Admin, parts: Here) -> User:
    """A changed role, password or a deactivation ends all sign-ins of the person."""
    now = parts.now()
    password_hash = await parts.passwords.hash(body.password) if body.password else None
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        await store.lock_account(connection)
        row = await store.user(connection, user_id)
        if row is None:
            raise not_found("User")
        changed = dict(row) | body.model_dump(exclude_none=True, exclude={"password"}) | {"updated_at": now}
        await store.change_user(
            connection, user_id, name=changed["name"], role=changed["role"], active=changed["active"], now=now
        )
        if await store.count_admins(connection) == 0:
            raise Problem(409, "An account needs at least one active administrator")
        if password_hash:
            await store.replace_hash(connection, principal.account_id, user_id, password_hash)
        if password_hash or changed["role"] != row["role"] or not changed["active"]:
            await store.revoke_all(connection, user_id, "changed", now)
        person = UserSaved(**{name: changed[name] for name in ("email", "name", "role", "active")})
        await directory.publish(connection, principal.account_id, user_id, person, now)
        details = body.model_dump(exclude_none=True, exclude={"password", "name"})
        await audit.note(connection, principal, "user.change", str(user_id), now=now, details=details)
    return User(**changed)


@router.get("/api-keys", responses=responses())
async def list_api_keys(principal: Admin, parts: Here) -> list[ApiKey]:
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        return [ApiKey(**row) for row in await store.api_keys(connection)]


@router.post("/api-keys", status_code=201, responses=responses())
async def create_api_key(body: NewApiKey, principal: Admin, parts: Here, key_id: NewId) -> ApiKey:
    """The key is shown in this answer only; we keep its hash."""
    if RANK[body.role] > RANK[principal.role]:
        raise Problem(403, "A key cannot do more than the one who makes it")
    now, key = parts.now(), fresh_secret(API_KEY_PREFIX)
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        await store.add_api_key(
            connection,
            principal.account_id,
            key_id,
            name=body.name,
            key_hash=secret_hash(key),
            hint=key[-4:],
            role=body.role,
            created_by=principal.user_id,
            now=now,
            expires_at=body.expires_at,
        )
        await audit.note(connection, principal, "api_key.create", str(key_id), now=now, details={"role": body.role})
    return ApiKey(
        id=key_id,
        name=body.name,
        hint=key[-4:],
        role=body.role,
        created_by=principal.user_id,
        created_at=now,
        expires_at=body.expires_at,
        revoked_at=None,
        key=key,
    )


@router.delete("/api-keys/{key_id}", status_code=204, responses=responses(404))
async def revoke_api_key(key_id: UUID, principal: Admin, parts: Here) -> None:
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        if not await store.revoke_api_key(connection, key_id, now):
            raise not_found("API key")
        await audit.note(connection, principal, "api_key.revoke", str(key_id), now=now)


@router.get("/audit", responses=responses(400))
async def audit_log(
    principal: Admin,
    parts: Here,
    page: cursors.Hundred,
) -> list[AuditEntry]:
    """Newest first."""
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        rows = await (await driver(connection)).fetch(
            "SELECT position, at, actor_id, actor_kind, address, action, subject, details FROM audit"
            " WHERE $1::bigint IS NULL OR position < $1 ORDER BY position DESC LIMIT $2",
            page.after(int),
            page.fetched,
        )
    return [AuditEntry(**row) for row in page.cut(rows, "position")]
