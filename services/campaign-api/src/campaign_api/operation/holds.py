"""Kill-switches over HTTP, and the one of the whole installation for whoever runs it."""

import asyncio
import getpass
from uuid import UUID

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.door import audit
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, Parts
from campaign_api.door.principal import Operator, Principal, Supervisor
from campaign_api.door.problems import Problem, not_found, responses
from campaign_api.instance import store as instances
from campaign_api.instance.trouble import explain
from campaign_api.operation import models, orders, store
from contracts.operations import HoldScope, HoldSet

POLL_S = 0.03
NOBODY = UUID(int=0)
router = APIRouter(prefix="/api", tags=["queue"], route_class=IdempotentRoute)


@router.get("/holds", responses=responses())
async def holds(principal: Operator, parts: Here) -> list[models.Hold]:
    """Those of the account, and the one of the whole installation; with who set them, when and why. Templates that
    their provider stopped are among them."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        return [_shown(row) for row in await store.holds(connection)]


@router.put("/holds", responses=responses(404))
async def hold(body: models.HoldChange, principal: Supervisor, parts: Here) -> models.Hold:
    """Stops everything of the account, one instance or one template; or lets it go on.

    Answers once the sender heeds it (`effective`): then only what was on its way already can still arrive. False where
    that takes longer than two seconds.
    """
    if (body.scope == "account") != (body.key == ""):
        raise Problem(422, "key names the instance or template, and is empty for the account")
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        key = await _instance(connection, body.key) if body.scope == "instance" else body.key
        version = await _set(connection, parts, principal, body.scope, key, held=body.held, reason=body.reason)
    await _taken(parts, principal, body.scope, key, version)
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        rows = await store.holds(connection)
    return next(_shown(row) for row in rows if (row["scope"], row["key"]) == (body.scope, key))


def _shown(row: store.Row) -> models.Hold:
    reason = row["stopped_reason"]
    return models.Hold(**row, stopped_text=None if reason is None else explain(reason))


async def set_everything(parts: Parts, *, held: bool, reason: str) -> int:
    """From the command line of whoever runs the installation: nobody's account, everybody's messages. The version."""
    operator = Principal(NOBODY, None, "admin", "system", address=getpass.getuser())
    async with parts.worker.transaction() as connection:
        return await _set(connection, parts, operator, "everything", "", held=held, reason=reason)


async def _set(
    connection: AsyncConnection, parts: Parts, principal: Principal, scope: HoldScope, key: str, *, held: bool,
    reason: str,
) -> int:  # fmt: skip
    now, by = parts.now(), principal.user_id
    version = await store.set_hold(
        connection, principal.account_id, scope=scope, key=key, held=held, by=by, now=now, reason=reason
    )
    event = HoldSet(scope=scope, key=key, held=held, version=version, by=by, reason=reason)
    await orders.give(connection, principal.account_id, event, parts.now())
    details = {"held": held, "key": key, "reason": reason}
    await audit.note(connection, principal, "hold.set", scope, now=now, details=details)
    return version


async def _taken(parts: Parts, principal: Principal, scope: str, key: str, version: int) -> None:
    """Waits for the sender's word, which the consumer of campaign-progress writes into the row."""
    try:
        async with asyncio.timeout(parts.settings.pause_wait_s):
            while not parts.stopping.is_set():
                async with parts.web.transaction(account_id=principal.account_id) as connection:
                    if await store.taken_version(connection, scope, key) >= version:
                        return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        return


async def _instance(connection: AsyncConnection, key: str) -> str:
    """As the sender spells it, however it is written here."""
    try:
        instance_id = UUID(key)
    except ValueError:
        raise not_found("Instance") from None
    if await instances.one(connection, instance_id) is None:
        raise not_found("Instance")
    return str(instance_id)
