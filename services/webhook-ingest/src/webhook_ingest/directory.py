"""The instances that the door knows, in memory, never older than a set time."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from time import monotonic
from uuid import UUID

from asyncpg import InterfaceError, PostgresError
from sqlalchemy.exc import SQLAlchemyError

from chassis.database import Database
from chassis.lifecycle import pause
from chassis.secrets import SecretBox, UnreadableSecret
from chassis.telemetry import log
from providers.protocol import WebhookKeys
from webhook_ingest.admission import KnownInstance, Signer
from webhook_ingest.store import InstanceRow, latest_revision, load_instances

# Inside a JSON string the quotes are escaped, so this matches a key of the payload only.
_NUMBER_NAMED = re.compile(rb'"phone_number_id"\s*:\s*"(\d{1,32})"')
REFUSAL_REFRESH_S = 0.2  # a flood of bad keys costs at most five queries a second


class Directory:
    """Reads are lock-free dictionary look-ups; `refresh` swaps the dictionaries when a revision is new."""

    def __init__(self, database: Database, box: SecretBox, *, app_secrets: tuple[str, ...] = ()) -> None:
        """`app_secrets`: the installation's, valid for Meta's webhooks besides those of the numbers."""
        self._database = database
        self._box = box
        self._own_app = Signer(WebhookKeys(signing_secrets=app_secrets))
        self._apps: tuple[Signer, ...] = ()
        self._apps_by_number: dict[bytes, tuple[Signer, ...]] = {}
        self._revision = -1
        self._asked_at_s = self._known_at_s = 0.0
        self._by_id: dict[UUID, KnownInstance] = {}
        self._by_phone_number_id: dict[str, list[KnownInstance]] = {}
        self._refreshing = asyncio.Lock()

    def by_id(self, instance_id: UUID) -> KnownInstance | None:
        return self._by_id.get(instance_id)

    def meta_signers(self, body: bytes) -> Iterator[Signer]:
        """Who may have signed a webhook of Meta's, the apps of the number that it names before all others: there may be
        hundreds, and to try one costs as much as to read the webhook. Whom it names decides about the order alone."""
        yield self._own_app
        named = _NUMBER_NAMED.search(body)
        yield from self._apps_by_number.get(named[1], ()) if named else ()
        yield from self._apps

    def find(self, text: str) -> KnownInstance | None:
        """By our id as it stands in an address."""
        try:
            return self._by_id.get(UUID(text))
        except ValueError:
            return None

    def by_phone_number_id(self, phone_number_id: str) -> Sequence[KnownInstance]:
        """Several where accounts claim the same number: whose it is, the signature says."""
        return self._by_phone_number_id.get(phone_number_id, ())

    def by_phone_number(self, phone_number: str) -> KnownInstance | None:
        return next((known for known in self._by_id.values() if known.has_number(phone_number)), None)

    def of_business(self, business_id: str) -> Iterator[KnownInstance]:
        return (known for known in self.of_kind("meta_cloud") if known.business_id == business_id)

    def by_gateway_name(self, name: str) -> Iterator[KnownInstance]:
        return (known for known in self.of_kind("evolution") if known.gateway_instance == name)

    def of_kind(self, prefix: str) -> Iterator[KnownInstance]:
        return (known for known in self._by_id.values() if known.provider.startswith(prefix))

    async def refresh_if_older(self) -> None:
        """Asked before a refusal: the instance may have been created, or its key rotated, a moment ago."""
        if monotonic() - self._asked_at_s > REFUSAL_REFRESH_S:
            with suppress(SQLAlchemyError, PostgresError, InterfaceError, OSError, TimeoutError):
                await self.refresh()

    async def know_since(self, at_s: float) -> None:
        """Returns knowing what was committed before this time of the monotonic clock. Raises as the database does."""
        if self._known_at_s < at_s:
            await self.refresh()

    async def refresh(self) -> None:
        """One cheap query when nothing changed."""
        self._asked_at_s = monotonic()
        async with self._refreshing:
            known_at_s = monotonic()
            async with self._database.transaction() as connection:
                revision = await latest_revision(connection)
                rows = await load_instances(connection) if revision != self._revision else None
            if rows is not None:
                self.learn([instance for row in rows if (instance := self._unseal(row)) is not None])
            self._revision, self._known_at_s = revision, known_at_s

    def learn(self, known: Sequence[KnownInstance]) -> None:
        """These and no others. Accounts may share an app of Meta's."""
        self._by_id = {instance.id: instance for instance in known}
        self._by_phone_number_id = {}
        for instance in known:
            if instance.phone_number_id:
                self._by_phone_number_id.setdefault(instance.phone_number_id, []).append(instance)
        owners: dict[str, dict[UUID, None]] = {}
        for instance in self.of_kind("meta_cloud"):
            for secret in instance.keys.signing_secrets:
                owners.setdefault(secret, {})[instance.account_id] = None
        apps = {
            secret: Signer(WebhookKeys(signing_secrets=(secret,)), tuple(accounts))
            for secret, accounts in owners.items()
        }
        self._apps = tuple(apps.values())
        self._apps_by_number = {
            number.encode(): tuple(
                apps[secret] for one in claiming for secret in one.keys.signing_secrets if secret in apps
            )
            for number, claiming in self._by_phone_number_id.items()
        }

    async def keep_fresh(self, every_s: float, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - the edge of the loop: what is known stays known
                log.warning("instances_not_refreshed", error=type(error).__name__)
            await pause(stopping, every_s)

    def _unseal(self, row: InstanceRow) -> KnownInstance | None:
        try:
            return self._known(row)
        except UnreadableSecret as error:
            log.error("instance_not_readable", instance_id=str(row.id), error=str(error))
            return None

    def _known(self, row: InstanceRow) -> KnownInstance:
        def clear(field: str) -> str | None:
            sealed = row.credentials.get(field)
            if sealed is None:
                return None
            return self._box.open(sealed, account_id=row.account_id, instance_id=row.id, field=field)

        app_secret, token = clear("app_secret"), clear("token")
        return KnownInstance(
            id=row.id,
            account_id=row.account_id,
            provider=row.provider,
            gateway_instance=row.gateway_instance,
            phone_number_id=row.phone_number_id,
            phone_number=row.phone_number,
            keys=WebhookKeys(
                signing_secrets=(app_secret,) if app_secret else (),
                key_hashes=frozenset(row.key_hashes),
                token_hashes=frozenset({sha256(token.encode()).hexdigest()}) if token else frozenset(),
            ),
            verify_token=clear("verify_token"),
            business_id=clear("business_id"),
        )
