"""The instances' routes."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.door import audit, cursors, etags
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, NewId, Parts
from campaign_api.door.principal import Admin, Operator, Principal
from campaign_api.door.problems import Problem, not_found, responses
from campaign_api.event_store import Recorded, Stream, decide_in
from campaign_api.identity.models import Done
from campaign_api.identity.tokens import fresh_secret
from campaign_api.instance import configuration as configurations
from campaign_api.instance import instance as decisions
from campaign_api.instance import models, store
from campaign_api.instance.configuration import Sealer
from chassis.database import driver
from contracts.instances import InstanceConfigured

router = APIRouter(prefix="/api", tags=["instances"], route_class=IdempotentRoute)


async def apply(
    parts: Parts,
    connection: AsyncConnection,
    principal: Principal,
    instance_id: UUID,
    decide: Callable[[decisions.Instance], Sequence[InstanceConfigured]],
    action: str,
    *,
    expected_version: int | None = None,
) -> Recorded[decisions.Instance]:
    """Decide, append, write the row, note it in the audit log: one transaction, the caller's. Raises Problem 422."""
    now, stream = parts.now(), store.stream(principal.account_id, instance_id)
    try:
        recorded = await decide_in(
            connection,
            stream,
            decisions.evolve,
            decisions.INITIAL,
            decide,
            now=now,
            expected_version=expected_version,
        )
    except decisions.Incomplete as error:
        raise Problem(422, str(error)) from error
    if recorded.events:
        await store.write(connection, stream, recorded, now)
        if recorded.state.exists and recorded.state.configuration and recorded.state.configuration.is_default:
            await _take_default(connection, principal.account_id, instance_id, now)
        await audit.note(connection, principal, action, str(instance_id), now=now)
    return recorded


async def _take_default(connection: AsyncConnection, account_id: UUID, instance_id: UUID, now: datetime) -> None:
    """There is one default: the others cease to be it."""
    others = await (await driver(connection)).fetch(
        "SELECT id FROM instance WHERE is_default AND id <> $1", instance_id
    )
    for other in others:
        stream: Stream = store.stream(account_id, other["id"])
        recorded = await decide_in(
            connection,
            stream,
            decisions.evolve,
            decisions.INITIAL,
            lambda instance: decisions.become_default(instance, False),
            now=now,
        )
        await store.write(connection, stream, recorded, now)


@router.post("/instances", status_code=201, responses=responses())
async def create(
    body: models.NewInstance, principal: Admin, parts: Here, instance_id: NewId, response: Response
) -> models.Instance:
    """The first instance of an account becomes its default one."""
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        is_default = body.is_default or await store.default_id(connection) is None
        await _add(parts, connection, principal, instance_id, body, is_default)
        return await _shown(connection, instance_id, response)


async def _add(
    parts: Parts,
    connection: AsyncConnection,
    principal: Principal,
    instance_id: UUID,
    wanted: models.NewInstance,
    is_default: bool,
) -> None:
    sealer = Sealer(parts.secrets, principal.account_id, instance_id)

    def decide(instance: decisions.Instance) -> Sequence[InstanceConfigured]:
        if instance.configuration is not None:
            return []  # the id is derived from the request: the same one again
        first = configurations.first(
            wanted, sealer, parts.settings.public_url, is_default=is_default, created_at=parts.now()
        )
        return decisions.configure(instance, first)

    await apply(parts, connection, principal, instance_id, decide, "instance.create")


async def _shown(connection: AsyncConnection, instance_id: UUID, response: Response | None = None) -> models.Instance:
    row = await store.one(connection, instance_id)
    if row is None:
        raise not_found("Instance")
    if response is not None:
        response.headers["ETag"] = etags.of(row["version"])
    users = await store.current_users(connection, [instance_id])
    return models.shown(row, store.configuration_of(row), users.get(instance_id, 0))


@router.get("/instances", responses=responses(400))
async def list_all(
    principal: Operator,
    parts: Here,
    page: cursors.Hundred,
) -> list[models.Instance]:
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        rows = await store.some(connection, page.after_moment(), page.fetched)
        users = await store.current_users(connection, [row["id"] for row in rows])
    return [
        models.shown(row, store.configuration_of(row), users.get(row["id"], 0))
        for row in page.cut(rows, "created_at", "id")
    ]


@router.get("/instances/{instance_id}", responses=responses(404))
async def one(instance_id: UUID, principal: Operator, parts: Here, response: Response) -> models.Instance:
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        return await _shown(connection, instance_id, response)


@router.patch("/instances/{instance_id}", responses=responses(404, 412))
async def change(
    instance_id: UUID,
    body: models.InstanceChange,
    principal: Admin,
    parts: Here,
    response: Response,
    expected: etags.IfMatch = None,
) -> models.Instance:
    """Credentials that are given replace the old ones; all others stay."""
    sealer = Sealer(parts.secrets, principal.account_id, instance_id)

    def decide(instance: decisions.Instance) -> Sequence[InstanceConfigured]:
        if instance.configuration is None or not instance.exists:
            raise not_found("Instance")
        wanted = configurations.changed(instance.configuration, body, sealer)
        if body.is_default:
            wanted = wanted.model_copy(update={"is_default": True})
        return decisions.configure(instance, wanted)

    async with parts.web.transaction(account_id=principal.account_id) as connection:
        await apply(
            parts, connection, principal, instance_id, decide, "instance.change", expected_version=etags.read(expected)
        )
        return await _shown(connection, instance_id, response)


@router.delete("/instances/{instance_id}", responses=responses(404))
async def delete(instance_id: UUID, principal: Admin, parts: Here) -> Done:
    """Also at the gateway; its campaigns and conversations stay, without an instance."""
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        if await store.one(connection, instance_id) is None:
            raise not_found("Instance")
        await apply(parts, connection, principal, instance_id, decisions.delete, "instance.delete")
    return Done()


@router.post("/instances/{instance_id}/webhook-key", responses=responses(404))
async def rotate_webhook_key(instance_id: UUID, principal: Admin, parts: Here) -> models.WebhookKey:
    """A new key for our webhook; the old one is accepted until the next rotation. Shown in this answer only."""
    key = fresh_secret()
    sealer = Sealer(parts.secrets, principal.account_id, instance_id)
    sealed = sealer.seal({decisions.WEBHOOK_KEY: key})[decisions.WEBHOOK_KEY]
    hashed = configurations.key_hash(key)
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        recorded = await apply(
            parts,
            connection,
            principal,
            instance_id,
            lambda instance: decisions.rotate_webhook_key(instance, sealed, hashed),
            "instance.rotate_webhook_key",
        )
    if recorded.state.configuration is None or not recorded.state.exists:
        raise not_found("Instance")
    provider = recorded.state.configuration.provider
    url = configurations.webhook_url(parts.settings.public_url, provider, instance_id, key)
    return models.WebhookKey(key=key, webhook_url=url)


@router.post("/instance/connect", responses=responses(404))
async def connect(principal: Admin, parts: Here, body: models.Connect | None = None) -> models.Connecting:
    """Asks the gateway for a connection; the QR code comes in `GET /api/instance/status`.

    A name that is not known yet makes a new WhatsApp Web instance at the installation's gateway.
    """
    name = body.instanceName if body else None
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        row = await store.named(connection, name)
        if row is None:
            instance_id = uuid4()
            wanted = _at_own_gateway(parts, name)
            is_default = await store.default_id(connection) is None
            await _add(parts, connection, principal, instance_id, wanted, is_default)
        else:
            instance_id = row["id"]
        await apply(
            parts,
            connection,
            principal,
            instance_id,
            lambda instance: decisions.want(instance, "connected"),
            "instance.connect",
        )
        row = await store.one(connection, instance_id)
        assert row is not None
        configuration = store.configuration_of(row)
    return models.Connecting(instanceId=instance_id, instanceName=configuration.gateway_instance or configuration.name)


def _at_own_gateway(parts: Parts, name: str | None) -> models.NewInstance:
    settings = parts.settings
    if settings.evolution_api_url is None or settings.evolution_api_key is None:
        raise Problem(404, "There is no such instance, and this installation has no gateway to make one at")
    return models.NewInstance(
        name=name or "default",
        provider="evolution_web",
        server_url=settings.evolution_api_url,
        instance_name=name or "default",
        credentials={"apikey": settings.evolution_api_key.get_secret_value()},
    )


@router.get("/instance/status", responses=responses(404))
async def status(
    principal: Operator, parts: Here, instance_name: str | None = Query(None, alias="instanceName", max_length=200)
) -> models.ConnectionState:
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        row = await store.named(connection, instance_name)
    if row is None:
        raise not_found("Instance")
    shown = models.shown(row, store.configuration_of(row))
    return models.ConnectionState(
        status=shown.connection_status,
        qrCode=shown.qr_code,
        pairingCode=shown.pairing_code,
        phoneNumber=shown.phone_number,
        instanceId=shown.id,
        lastError=shown.last_error,
    )


@router.delete("/instance/disconnect", responses=responses(404))
async def disconnect(
    principal: Admin, parts: Here, instance_name: str | None = Query(None, alias="instanceName", max_length=200)
) -> Done:
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        row: Any = await store.named(connection, instance_name)
        if row is None:
            raise not_found("Instance")
        await apply(
            parts,
            connection,
            principal,
            row["id"],
            lambda instance: decisions.want(instance, "disconnected"),
            "instance.disconnect",
        )
    return Done()
