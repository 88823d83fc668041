"""Takes a campaign's audience from a list, a file, tags or another campaign into its chunks, and publishes them.

They are published when the audience is made and not when the campaign starts: whoever plans has them by then.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign import recipients, store
from campaign_api.campaign.models import ListedContact
from campaign_api.door.principal import Principal
from campaign_api.door.problems import Problem
from campaign_api.upload import reading
from campaign_api.upload import store as uploads
from campaign_api.upload.phone import NoPhone, normalise
from campaign_api.upload.reading import Batch, Unreadable
from campaign_api.upload.tables import Contact, Rejected, clean
from chassis import outbox
from chassis.database import driver
from chassis.kafka import Encoded
from chassis.telemetry import current_traceparent
from contracts import ids
from contracts.campaigns import RecipientsAdded
from contracts.envelope import Envelope, write_headers
from contracts.topics import CAMPAIGN_API, CAMPAIGN_RECIPIENTS

CONTACTS_A_BATCH = 1000


@dataclass(slots=True)
class Intake:
    """Replaces a campaign's audience, batch by batch, inside the caller's transaction."""

    connection: AsyncConnection
    principal: Principal
    audience: recipients.Audience
    rows_max: int
    now: datetime
    rejected: int = 0

    @classmethod
    async def begin(
        cls,
        connection: AsyncConnection,
        principal: Principal,
        campaign_id: UUID,
        *,
        upload_id: UUID | None,
        rows_max: int,
        now: datetime,
    ) -> "Intake":
        account_id = principal.account_id
        first_chunk = await store.clear_audience(connection, account_id, campaign_id)
        await uploads.clear_import(connection, account_id, campaign_id)
        await uploads.add_import(
            connection,
            account_id,
            campaign_id,
            kind="campaign",
            upload_id=upload_id,
            options={},
            state="completed",
            created_by=principal.user_id,
            now=now,
        )
        opted_out = await store.opted_out(connection)
        audience = recipients.Audience(account_id, campaign_id, opted_out, first_chunk)
        return cls(connection, principal, audience, rows_max, now)

    async def take(self, contacts: Iterable[Contact], rejected: Sequence[Rejected] = ()) -> None:
        refused, chunks = list(rejected), list[recipients.Chunk]()
        for contact in contacts:
            match self.audience.add(contact):
                case recipients.Chunk() as chunk:
                    chunks.append(chunk)
                case Rejected() as row:
                    refused.append(row)
                case None:
                    pass
        if self.audience.recipient_count + self.rejected + len(refused) > self.rows_max:
            raise Problem(413, f"At most {self.rows_max} rows can be taken at once")
        self.rejected += len(refused)
        campaign_id, account_id = self.audience.campaign_id, self.audience.account_id
        await uploads.reject(self.connection, account_id, campaign_id, refused)
        await self._keep(chunks)

    async def finish(self) -> None:
        last = self.audience.cut()
        campaign_id, account_id = self.audience.campaign_id, self.audience.account_id
        await self._keep([last] if last else [])
        await store.write_audience(self.connection, self.audience, self.rejected)
        await uploads.progress(
            self.connection,
            account_id,
            campaign_id,
            state="completed",
            accepted=self.audience.recipient_count,
            rejected=self.rejected,
            finished_at=self.now,
        )

    async def _keep(self, chunks: Sequence[recipients.Chunk]) -> None:
        """To be read again, and into the outbox as they are."""
        if chunks:
            account_id, campaign_id = self.audience.account_id, self.audience.campaign_id
            await store.add_chunks(self.connection, account_id, campaign_id, chunks)
            await outbox.append_encoded(
                self.connection, [_record(account_id, campaign_id, chunk, self.now) for chunk in chunks]
            )


def _record(account_id: UUID, campaign_id: UUID, chunk: recipients.Chunk, now: datetime) -> Encoded:
    """With an id that a repetition would repeat."""
    key = str(campaign_id)
    envelope = Envelope(
        id=ids.event_id(CAMPAIGN_API, key, f"recipients:{chunk.number}"),
        type=RecipientsAdded.__name__,
        version=RecipientsAdded.VERSION,
        source=CAMPAIGN_API,
        subject=key,
        time=now,
        account_id=account_id,
        traceparent=current_traceparent(),
    )
    return Encoded(CAMPAIGN_RECIPIENTS.name, key.encode(), chunk.value, write_headers(envelope))


async def take_file(intake: Intake, path: Path, options: dict[str, Any]) -> None:
    """Raises Problem 422 for a file that is no table."""
    try:
        async with aclosing(reading.batches(path, options)) as batches:
            async for batch in batches:
                await intake.take(batch.contacts, batch.rejected)
    except Unreadable as error:
        raise Problem(422, f"The uploaded file cannot be used: {error}") from error


async def take_list(intake: Intake, contacts: Sequence[ListedContact], country: str) -> None:
    for start in range(0, len(contacts), CONTACTS_A_BATCH):
        batch = listed(contacts[start : start + CONTACTS_A_BATCH], country, start + 1)
        await intake.take(batch.contacts, batch.rejected)


def listed(contacts: Sequence[ListedContact], country: str, first_row: int) -> Batch:
    """Entries of a request as rows of a file, counted from 1."""
    good, bad = [], []
    for row, contact in enumerate(contacts, start=first_row):
        try:
            phone = normalise(contact.phone_number, country)
        except NoPhone as error:
            bad.append(Rejected(row, str(error), (contact.external_id or "", contact.phone_number, contact.name)))
            continue
        fields = {
            clean(name): clean(_text(value)) for name, value in contact.custom_fields.items() if value is not None
        }
        good.append(
            Contact(row, clean(contact.external_id or "") or f"contact_{row}", phone, clean(contact.name), fields)
        )
    return Batch(tuple(good), tuple(bad))


def _text(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


async def take_contacts(intake: Intake, rows: AsyncIterator[Sequence[Contact]]) -> None:
    async for contacts in rows:
        await intake.take(contacts)


async def tagged(connection: AsyncConnection, tags: Sequence[str]) -> AsyncIterator[Sequence[Contact]]:
    """Contacts of the account with any of the tags, in pages by id; served by contact_tags and the primary key."""
    raw = await driver(connection)
    after = UUID(int=0)
    row_number = 0
    while True:
        rows = await raw.fetch(
            "SELECT id, phone, name, external_id, custom_fields FROM contact WHERE tags && $1::text[] AND id > $2"
            " AND phone IS NOT NULL AND NOT erased ORDER BY id LIMIT $3",
            list(tags),
            after,
            CONTACTS_A_BATCH,
        )
        if not rows:
            return
        page = []
        for row in rows:
            row_number += 1
            external_id = row["external_id"] or f"contact_{row_number}"
            page.append(Contact(row_number, external_id, row["phone"], row["name"], row["custom_fields"]))
        yield page
        after = rows[-1]["id"]


async def of_campaign(
    connection: AsyncConnection, account_id: UUID, campaign_id: UUID
) -> AsyncIterator[Sequence[Contact]]:
    """Another campaign's audience, for a clone."""
    row_number = 1
    async for chunk in store.chunks(connection, account_id, campaign_id):
        page = recipients.contacts_of(chunk, row_number)
        yield page
        row_number += len(page)
