"""Instances at their gateways: what a person wants is made so there, and what the gateway answers is told."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

import aiohttp

from chassis.database import Database, driver
from chassis.kafka import outgoing
from chassis.lifecycle import utc_now
from chassis.outbox import append
from chassis.secrets import UnreadableSecret
from chassis.telemetry import log
from contracts import instances as facts
from contracts.instances import InstanceConfigured, InstanceHealthEvent
from contracts.topics import INSTANCE_HEALTH, SENDER
from providers.calls import (
    CallAnswer,
    CallDone,
    CallFailed,
    InstanceMade,
    InstancesListed,
    LimitsAnswered,
    NumbersChecked,
    QrAnswered,
    StateAnswered,
    VersionAnswered,
    WebhookTarget,
)
from providers.failures import NO_SUCH_INSTANCE, PROVIDER_BUSY
from providers.protocol import Account, HttpRequest, Provider
from providers.registry import PROVIDERS
from sender.gateway.client import Gateway
from sender.gateway.egress import ForbiddenAddress
from sender.gateway.exchange import NotConnected, ResponseTooLarge
from sender.instance.instances import Instances, read_config
from sender.rounds import repeat

WEBHOOK_KEY = "webhook_key"
KEY_PLACE = "{secret}"
CALL_TIMEOUT_S = 30.0
TRIES_MAX = 8

# Claims wishes that the gateway has not been told of; a failed try waits twice as long each time.
_CLAIM = """
UPDATE instance SET tried_at = clock_timestamp(), tries = tries + 1
WHERE instance_id IN (
  SELECT instance_id FROM instance
  WHERE tries < $1
    AND (tried_at IS NULL OR tried_at < clock_timestamp() - make_interval(secs => 2 ^ tries))
    AND ((config ->> 'wanted_version')::int > made_version
         OR (config ->> 'wanted' = 'connected' AND made_key IS NOT NULL
             AND made_key <> (config -> 'webhook_key_hashes' ->> 0)))
  ORDER BY instance_id FOR UPDATE SKIP LOCKED LIMIT 10)
RETURNING instance_id, account_id, config, made_version, made_key, tries
"""
_MADE = """
UPDATE instance SET made_version = greatest(made_version, $2), made_key = $3, tries = 0, tried_at = NULL
WHERE instance_id = $1
"""


class Connections:
    """Runs in every sender; a claim keeps two from making the same call."""

    def __init__(self, database: Database, gateway: Gateway, instances: Instances, webhook_base_url: str) -> None:
        self._webhook_base_url = webhook_base_url.rstrip("/")
        self._database = database
        self._gateway = gateway
        self._instances = instances

    async def run(self, stopping: asyncio.Event, poll_s: float) -> None:
        await repeat(self.serve_wishes, poll_s, stopping, interrupted="connections_interrupted")

    async def serve_wishes(self) -> int:
        async with self._database.transaction() as connection:
            rows = await (await driver(connection)).fetch(_CLAIM, TRIES_MAX)
        async with asyncio.TaskGroup() as calls:
            for row in rows:
                calls.create_task(self._serve(row))
        return len(rows)

    async def _serve(self, row: Any) -> None:
        config, instance_id = read_config(row["config"]), row["instance_id"]
        try:
            account = self._instances.account(row["account_id"], instance_id, config)
        except UnreadableSecret:
            await self._tell(instance_id, row["account_id"], [_gave_up("credentials_unreadable", utc_now())], config)
            return
        webhook = WebhookTarget(
            url=webhook_address(self._webhook_base_url, instance_id, config, account),
            key=account.credentials.get(WEBHOOK_KEY, ""),
        )
        requests = plan(config, row["made_version"], account, webhook, PROVIDERS[config.provider])
        connecting, asked = config.wanted == "connected", config.wanted_version > row["made_version"]
        answers = await self._call(PROVIDERS[config.provider], requests, stop_at_failure=connecting)
        failed = find_failure(answers, connecting=connecting)
        events = [event for answer in answers for event in tell(answer, utc_now())]
        if failed is not None:
            # Without the answer's text: it may repeat the address of our webhook, and with it the secret in it.
            log.warning(
                "connection_failed",
                instance_id=str(instance_id),
                wanted=config.wanted,
                failure=failed.failure.name,
                status=failed.status,
            )
        if failed is not None and failed.retryable and row["tries"] < TRIES_MAX:
            await self._tell(instance_id, row["account_id"], events, None)
            return
        if failed is not None:
            events.append(_gave_up(failed.failure.name, utc_now()))
        elif asked and not (events and connecting):
            events.append(_done(config, utc_now()))
        await self._tell(instance_id, row["account_id"], events, config)

    async def _call(
        self, provider: Provider, requests: Sequence[HttpRequest], *, stop_at_failure: bool
    ) -> list[CallAnswer]:
        """In order. That something exists already is no failure."""
        answers: list[CallAnswer] = []
        for request in requests:
            try:
                status, headers, body = await self._gateway.call(request, total_s=CALL_TIMEOUT_S)
                answer = provider.read_call(status, headers, body)
            except ForbiddenAddress:
                answer = CallFailed(PROVIDER_BUSY, 0, "the address is not allowed")
            except (NotConnected, ResponseTooLarge, aiohttp.ClientError, TimeoutError, OSError) as error:
                answer = CallFailed(PROVIDER_BUSY, 0, type(error).__name__, retryable=True)
            answers.append(answer)
            if stop_at_failure and isinstance(answer, CallFailed) and not answer.exists:
                break
        return answers

    async def _tell(
        self,
        instance_id: UUID,
        account_id: UUID,
        events: Sequence[InstanceHealthEvent],
        made: InstanceConfigured | None,
    ) -> None:
        """`made`: the configuration that the gateway now has."""
        now = utc_now()
        async with self._database.transaction() as connection:
            if made is not None:
                key = made.webhook_key_hashes[0] if made.webhook_key_hashes else None
                await (await driver(connection)).execute(_MADE, instance_id, made.wanted_version, key)
            await append(
                connection,
                [
                    outgoing(
                        INSTANCE_HEALTH, str(instance_id), event, source=SENDER, account_id=account_id, time=now
                    )
                    for event in events
                ],
            )  # fmt: skip


def plan(
    config: InstanceConfigured, made_version: int, account: Account, webhook: WebhookTarget, provider: Provider
) -> tuple[HttpRequest, ...]:
    """The calls that make the wish so; only the webhook's where the wish itself was fulfilled before."""
    match config.wanted:
        case "connected":
            if config.wanted_version <= made_version:
                return provider.webhook_requests(account, webhook)
            return provider.connect_requests(account, webhook)
        case "disconnected":
            return provider.disconnect_requests(account)
        case "deleted":
            return provider.delete_requests(account)
        case "none":
            return ()
        case _:
            assert_never(config.wanted)


def webhook_address(base_url: str, instance_id: UUID, config: InstanceConfigured, account: Account) -> str:
    """Our own door for this provider. Where the key is part of the address, the configuration has its place only."""
    key = account.credentials.get(WEBHOOK_KEY, "")
    if config.webhook_url:
        return config.webhook_url.replace(KEY_PLACE, key)
    match config.provider:
        case "evolution_web" | "evolution_cloud":
            return f"{base_url}/api/webhook/evolution/{instance_id}"
        case "meta_cloud":
            return f"{base_url}/api/webhook/meta"
        case "zapi":
            return f"{base_url}/api/webhook/zapi/{key}"
        case _:
            assert_never(config.provider)


def find_failure(answers: Sequence[CallAnswer], *, connecting: bool) -> CallFailed | None:
    """The failure that leaves the wish open. Taking something away counts by its last call, and what the gateway
    does not know is gone already."""
    failures = [a for a in (answers if connecting else answers[-1:]) if isinstance(a, CallFailed) and not a.exists]
    if not connecting and failures and failures[0].failure is NO_SUCH_INSTANCE:
        return None
    return failures[0] if failures else None


def tell(answer: CallAnswer, now: datetime) -> list[InstanceHealthEvent]:
    """What an answer says about the instance."""
    match answer:
        case QrAnswered():
            return [facts.InstanceConnecting(at=now), _qr(answer, now)]
        case InstanceMade(qr=qr):
            return [facts.InstanceConnecting(at=now), *([] if qr is None else [_qr(qr, now)])]
        case StateAnswered(state="open"):
            return [facts.InstanceConnected(at=now)]
        case StateAnswered(state="connecting"):
            return [facts.InstanceConnecting(at=now)]
        case StateAnswered(state=state, detail=detail):
            return [facts.InstanceDisconnected(reason=detail or state, at=now)]
        case LimitsAnswered():
            return [
                facts.InstanceLimitsChanged(
                    tier=answer.tier,
                    unique_per_24h=answer.unique_per_24h,
                    unlimited=answer.unlimited,
                    messages_per_second=answer.messages_per_second,
                    quality=answer.quality,
                    at=now,
                ),
                facts.InstanceConnected(phone_number=_digits(answer.phone), at=now),
            ]
        case CallDone() | CallFailed() | InstancesListed() | NumbersChecked() | VersionAnswered():
            return []
        case _:
            assert_never(answer)


def _qr(answer: QrAnswered, now: datetime) -> InstanceHealthEvent:
    return facts.QrCodeUpdated(qr_code=answer.image or answer.code, pairing_code=answer.pairing_code, at=now)


def _done(config: InstanceConfigured, now: datetime) -> InstanceHealthEvent:
    if config.wanted == "connected":
        return facts.InstanceConnecting(at=now)
    return facts.InstanceDisconnected(reason=config.wanted, at=now)


def _gave_up(reason: str, now: datetime) -> InstanceHealthEvent:
    return facts.InstanceDisconnected(reason=reason, at=now)


def _digits(phone: str | None) -> str | None:
    return None if phone is None else "".join(filter(str.isdigit, phone)) or None
