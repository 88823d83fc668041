"""What the sender's tests need: a migrated database, the service as a process, messages to queue, figures."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import aiohttp
import asyncpg
from pydantic import SecretStr

from chassis import database as databases
from chassis.kafka import Outgoing, outgoing
from chassis.secrets import SecretBox
from chassis.settings import SecretsSettings
from contracts import topics
from contracts.ids import Address
from contracts.instances import InstanceConfigured, Limits, WarmUpPlan
from contracts.messages import Content, MessageQueued
from pombo import backing
from sender.settings import Settings

SCHEMA = "sender"
KEYS = "test:" + base64.b64encode(bytes(range(32))).decode()
ACCOUNT = UUID(int=1)
BOX = SecretBox(SecretsSettings(keys=SecretStr(KEYS)))


def settings(**changes: Any) -> Settings:
    """Settings for parts that are tried without a process."""
    fields: dict[str, Any] = {
        "kafka": {"bootstrap": "nowhere:1"},
        "postgres": {"dsn": "postgresql://nowhere"},
        "secrets": {"keys": KEYS},
    }
    return Settings(**{**fields, **changes})


def migrated(database: backing.Database) -> None:
    databases.migrate(database.roles["sender_owner"], "sender", SCHEMA)


def queued(
    number: int,
    *,
    campaign_id: UUID | None = UUID(int=7),
    attempt: int = 1,
    release: int = 1,
    run_epoch: int = 1,
    phone: str | None = None,
    valid_s: float = 600,
    **changes: Any,
) -> MessageQueued:
    """The message to the `number`th person of a campaign."""
    recipient = uuid5(campaign_id or UUID(int=8), f"person:{number}")
    fields: dict[str, Any] = {
        "dispatch_id": uuid5(recipient, "step"),
        "attempt": attempt,
        "release": release,
        "campaign_id": campaign_id,
        "run_epoch": run_epoch,
        "recipient_id": recipient,
        "contact_id": uuid5(recipient, "contact"),
        "step": 0,
        "priority": "campaign",
        "address": Address(phone=phone or f"55119{number:08d}"),
        "content": Content(kind="text", text=f"Olá {number}"),
        "send_before": datetime.now(UTC) + timedelta(seconds=valid_s),
    }
    return MessageQueued(**{**fields, **changes})


def to_queue(instance_id: UUID, message: MessageQueued, account_id: UUID = ACCOUNT) -> Outgoing:
    return outgoing(
        topics.MESSAGE_QUEUED,
        str(instance_id),
        message,
        source="scheduler",
        account_id=account_id,
        time=datetime.now(UTC),
    )


def configured(
    instance_id: UUID, url: str, number: str, *, warm_up: WarmUpPlan | None = None, **limits: Any
) -> Outgoing:
    """A Meta number at the simulator."""
    token = BOX.seal(f"token-{number}", account_id=ACCOUNT, instance_id=instance_id, field="access_token")
    config = InstanceConfigured(
        name=number,
        provider="meta_cloud",
        server_url=url,
        phone_number_id=number,
        credentials={"access_token": token},
        limits=Limits(**limits),
        warm_up=warm_up,
    )
    return outgoing(
        topics.INSTANCES,
        str(instance_id),
        config,
        source="campaign-api",
        account_id=ACCOUNT,
        time=datetime.now(UTC),
    )


SHOWN_LINES = 40


@dataclass(slots=True)
class Process:
    """A sender as a process; its log lines go to a file."""

    popen: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    async def stop(self) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.popen.wait, 30)


@dataclass(slots=True)
class Senders:
    """Starts senders on one database and one Kafka; all are ended with the test."""

    environment: dict[str, str]
    folder: Path
    running: list[Process] = field(default_factory=list)

    def start(self, name: str = "sender-0", **settings: str) -> Process:
        log = self.folder / f"{name}-{len(self.running)}.log"
        environment = {
            **os.environ,
            **self.environment,
            "KAFKA__GROUP_INSTANCE_ID": name,
            **settings,
        }
        with log.open("wb") as output:
            popen = subprocess.Popen([sys.executable, "-m", "sender", "serve"], env=environment, stderr=output)
        self.running.append(Process(popen, log))
        return self.running[-1]

    def show(self) -> None:
        """What each of them said last, beside the failure of the test."""
        for process in self.running:
            lines = process.log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
            sys.stderr.write("\n".join([f"{process.log.name}, exit code {process.popen.poll()}:", *lines, ""]))

    def stop_all(self) -> None:
        for process in self.running:
            if process.popen.poll() is None:
                process.kill()


@asynccontextmanager
async def senders(
    database: backing.Database, bootstrap: str, folder: Path, simulator_url: str, **settings: str
) -> AsyncIterator[Senders]:
    environment = {
        "KAFKA__BOOTSTRAP": bootstrap,
        "KAFKA__PARTITIONS_MAX": "3",
        "POSTGRES__DSN": database.roles["sender_worker"],
        "SECRETS__KEYS": KEYS,
        "ALLOWED_HOSTS": f'["{simulator_url.removeprefix("http://")}"]',
        "TEST_MODE": "true",
        **settings,
    }
    made = Senders(environment, folder)
    try:
        yield made
    except BaseException:
        made.show()
        raise
    finally:
        made.stop_all()


async def rows(dsn: str, sql: str, *arguments: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": SCHEMA})
    try:
        return list(await connection.fetch(sql, *arguments))
    finally:
        await connection.close()


def most_in_window(times_s: Iterable[float], window_s: float) -> int:
    """The largest number of events in any half-open window of this length."""
    times = sorted(times_s)
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


async def add_meta_number(http: aiohttp.ClientSession, url: str, number: str, hook: str = "", **more: Any) -> None:
    body = {"id": number, "kind": "meta", "callback_url": hook, **more}
    async with http.post(f"{url}/_control/numbers", json=body) as response:
        assert response.status == 201, await response.text()


def fresh_ids(count: int) -> Sequence[UUID]:
    return [uuid4() for _ in range(count)]
