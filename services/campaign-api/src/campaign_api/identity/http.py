"""Signing in and out, and who one is."""

from typing import Annotated
from uuid import uuid4

from asyncpg import UniqueViolationError
from fastapi import APIRouter, Cookie, Request, Response

from campaign_api.door import audit
from campaign_api.door.gate import CSRF_COOKIE, SESSION_COOKIE
from campaign_api.door.parts import Here, Parts
from campaign_api.door.principal import Operator, Principal
from campaign_api.door.problems import Problem, responses
from campaign_api.identity import directory, store
from campaign_api.identity.models import Done, Me, Refresh, SessionAnswer, SignIn, SignUp
from campaign_api.identity.sessions import Session, Sessions
from campaign_api.identity.tokens import fresh_secret
from contracts.directory import AccountSaved, UserSaved

REFRESH_COOKIE = "pombo_refresh"
router = APIRouter(prefix="/api", tags=["identity"])


def sessions_of(parts: Parts) -> Sessions:
    return Sessions(parts.worker, parts.passwords, parts.tokens, parts.settings)


@router.post("/auth/sign-in", responses=responses())
async def sign_in(body: SignIn, request: Request, response: Response, parts: Here) -> SessionAnswer:
    """Exchange e-mail and password for an access token and a refresh token."""
    address = request.client.host if request.client else None
    session = await sessions_of(parts).sign_in(body.email, body.password, address, parts.now())
    if body.session == "cookie":
        _set_cookies(response, session, parts)
    return _answer(session, parts)


@router.post("/auth/refresh", responses=responses())
async def refresh(
    body: Refresh, response: Response, parts: Here, pombo_refresh: Annotated[str | None, Cookie()] = None
) -> SessionAnswer:
    """A fresh pair of tokens; the one given is used up, and giving it twice ends the sign-in everywhere."""
    token = body.refresh_token or pombo_refresh
    if not token:
        raise Problem(401, "A refresh token is needed")
    session = await sessions_of(parts).refresh(token, parts.now())
    if body.refresh_token is None:
        _set_cookies(response, session, parts)
    return _answer(session, parts)


@router.post("/auth/sign-out", responses=responses())
async def sign_out(
    body: Refresh, response: Response, parts: Here, pombo_refresh: Annotated[str | None, Cookie()] = None
) -> Done:
    """Ends the sign-in that the refresh token belongs to."""
    if token := body.refresh_token or pombo_refresh:
        await sessions_of(parts).sign_out(token, parts.now())
    for name in (SESSION_COOKIE, CSRF_COOKIE, REFRESH_COOKIE):
        response.delete_cookie(name, path="/api/auth" if name == REFRESH_COOKIE else "/")
    return Done()


@router.get("/auth/me", responses=responses())
async def me(principal: Operator, parts: Here) -> Me:
    """Whom the token or key stands for."""
    person = None
    if principal.kind == "user" and principal.user_id:
        async with parts.web.transaction(account_id=principal.account_id) as connection:
            person = await store.user(connection, principal.user_id)
    return Me(
        account_id=principal.account_id,
        user_id=principal.user_id,
        role=principal.role,
        kind=principal.kind,
        name=person["name"] if person else None,
        email=person["email"] if person else None,
    )


@router.post("/accounts", status_code=201, responses=responses(404, 409))
async def sign_up(body: SignUp, request: Request, parts: Here) -> SessionAnswer:
    """Make an account and its first administrator, where the installation lets anybody do so."""
    if not parts.settings.sign_up:
        raise Problem(404, "Accounts are made by the administrators of this installation")
    address = request.client.host if request.client else None
    await create_account(parts, body.account_name, body.name, body.email, body.password, address)
    return _answer(await sessions_of(parts).sign_in(body.email, body.password, address, parts.now()), parts)


async def create_account(
    parts: Parts, account_name: str, name: str, email: str, password: str, address: str | None = None
) -> Principal:
    """Also behind `create-account` on the command line."""
    now = parts.now()
    principal = Principal(uuid4(), uuid4(), "admin", "system", address)
    assert principal.user_id is not None
    password_hash = await parts.passwords.hash(password)
    try:
        async with parts.worker.transaction(account_id=principal.account_id) as connection:
            await store.create_account(connection, principal.account_id, account_name, now)
            await store.insert_user(
                connection,
                principal.account_id,
                principal.user_id,
                email=email,
                name=name,
                role="admin",
                password_hash=password_hash,
                now=now,
            )
            await directory.publish(
                connection, principal.account_id, principal.account_id, AccountSaved(name=account_name), now
            )
            person = UserSaved(email=email, name=name, role="admin")
            await directory.publish(connection, principal.account_id, principal.user_id, person, now)
            await audit.note(connection, principal, "account.create", str(principal.account_id), now=now)
    except UniqueViolationError as error:
        raise Problem(409, "Somebody has this e-mail address already") from error
    return principal


def _answer(session: Session, parts: Parts) -> SessionAnswer:
    return SessionAnswer(
        access_token=session.access_token,
        refresh_token=session.refresh_token,
        expires_in=parts.settings.access_token_s,
        user=Me(
            account_id=session.account_id,
            user_id=session.user_id,
            role=session.role,
            kind="user",
            name=session.name,
            email=session.email,
        ),
    )


def _set_cookies(response: Response, session: Session, parts: Parts) -> None:
    secure, settings = parts.settings.secure_cookies, parts.settings
    response.set_cookie(
        SESSION_COOKIE,
        session.access_token,
        max_age=settings.access_token_s,
        httponly=True,
        secure=secure,
        samesite="strict",
    )
    response.set_cookie(
        REFRESH_COOKIE,
        session.refresh_token,
        max_age=settings.refresh_token_s,
        httponly=True,
        secure=secure,
        samesite="strict",
        path="/api/auth",
    )
    # Readable by the panel's script, which repeats it in X-CSRF-Token: another site cannot read it.
    response.set_cookie(CSRF_COOKIE, fresh_secret(), max_age=settings.refresh_token_s, secure=secure, samesite="strict")
