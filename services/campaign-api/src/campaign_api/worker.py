"""What runs beside the door: imports of contacts, and cleaning up."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from campaign_api.contact import lifecycle
from campaign_api.operation import webhooks
from campaign_api.settings import Settings
from campaign_api.upload import reading, store
from campaign_api.upload.tables import Contact, Rejected
from chassis.database import Database, driver, is_passing
from chassis.lifecycle import backoff_s, pause
from chassis.telemetry import log
from contracts import ids

IDLE_S = 0.5
TRIES_MAX = 5
BATCHES_AT_ONCE = 2


class TooManyRows(Exception):
    """The file has more rows than one import may take."""


@dataclass(slots=True)
class Counts:
    accepted: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Importer:
    """Takes waiting imports one after the other. Killed in the middle, another one begins it anew: ids are derived."""

    database: Database
    settings: Settings
    readers: asyncio.Semaphore
    now: Callable[[], datetime]

    async def run(self, stopping: asyncio.Event) -> None:
        failures = 0
        while not stopping.is_set():
            try:
                async with self.database.transaction() as connection:
                    job = await store.claim_import(connection)
                if job is None:
                    await pause(stopping, IDLE_S)
                else:
                    await self._import(job, stopping)
                failures = 0
            except Exception as error:
                if not _passes(error):
                    raise
                failures += 1
                log.warning("import_waits", error=type(error).__name__)
                await pause(stopping, backoff_s(failures))

    async def _import(self, job: store.Row, stopping: asyncio.Event) -> None:
        async with self.database.transaction(account_id=job["account_id"]) as connection:
            await store.clear_import(connection, job["account_id"], job["id"])
        counts, problem = Counts(), None
        try:
            await self._read(job, counts, stopping)
            state = "waiting" if stopping.is_set() else "completed"
        except* reading.Unreadable as unreadable:
            state, problem = "failed", str(unreadable.exceptions[0])
        except* TooManyRows:
            state, problem = "failed", f"at most {self.settings.import_rows_max} rows can be taken at once"
        async with self.database.transaction(account_id=job["account_id"]) as connection:
            await store.progress(
                connection,
                job["account_id"],
                job["id"],
                state=state,
                accepted=counts.accepted,
                rejected=counts.rejected,
                error=problem,
                finished_at=None if state == "waiting" else self.now(),
            )
        log.info("import_left", import_id=str(job["id"]), state=state, accepted=counts.accepted)

    async def _read(self, job: store.Row, counts: Counts, stopping: asyncio.Event) -> None:
        """Two batches at once: one is prepared here while PostgreSQL writes the other."""
        seen: set[str] = set()
        slots = asyncio.Semaphore(BATCHES_AT_ONCE)
        async with (
            self.readers,
            reading.on_disk(self.database, job["account_id"], job["upload_id"]) as path,
            aclosing(reading.batches(path, job["options"])) as batches,
            asyncio.TaskGroup() as tasks,
        ):
            async for batch in batches:
                fresh, refused = _once(batch, seen)
                counts.accepted += len(fresh)
                counts.rejected += len(refused)
                if counts.accepted + counts.rejected > self.settings.import_rows_max:
                    raise TooManyRows
                if stopping.is_set():
                    return
                await slots.acquire()
                work = self._take(job, fresh, refused, counts.accepted, counts.rejected)
                tasks.create_task(work).add_done_callback(lambda _: slots.release())

    async def _take(
        self, job: store.Row, contacts: list[Contact], refused: list[Rejected], accepted: int, rejected: int
    ) -> None:
        """One batch in one transaction; somebody's edit of the same contact at the same moment: once more."""
        account_id, import_id, options = job["account_id"], job["id"], job["options"]
        for last in (*[False] * (TRIES_MAX - 1), True):
            try:
                async with self.database.transaction(account_id=account_id) as connection:
                    await lifecycle.bring_in(
                        connection,
                        account_id,
                        contacts,
                        source=options["source"],
                        tags=options["tags"],
                        now=self.now(),
                    )
                    await store.reject(connection, account_id, import_id, refused)
                    await store.progress(
                        connection, account_id, import_id, state="running", accepted=accepted, rejected=rejected
                    )
                return
            except asyncpg.UniqueViolationError:
                if last:
                    raise


def _passes(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_passes(one) for one in error.exceptions)
    return is_passing(error)


def _once(batch: reading.Batch, seen: set[str]) -> tuple[list[Contact], list[Rejected]]:
    """Of several rows with the same person the first one counts."""
    fresh, refused = [], list(batch.rejected)
    for contact in batch.contacts:
        key = ids.phone_key(contact.phone)
        if key in seen:
            cells = (contact.external_id, contact.phone)
            refused.append(Rejected(contact.row, "the same person is in the file already", cells))
        else:
            seen.add(key)
            fresh.append(contact)
    return fresh, refused


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Removes what is kept for a set time only."""

    database: Database
    settings: Settings
    now: Callable[[], datetime]

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                async with self.database.transaction() as connection:
                    await self._clean(connection)
            except Exception as error:
                if not is_passing(error):
                    raise
                log.warning("housekeeping_waits", error=type(error).__name__)
            await pause(stopping, self.settings.housekeeping_s)

    async def _clean(self, connection: Any) -> None:
        now = self.now()
        await store.remove_expired(connection, now)
        raw = await driver(connection)
        kept = "make_interval(secs => $1)"
        await raw.execute(
            f"DELETE FROM idempotency WHERE created_at < now() - {kept}",  # noqa: S608
            float(self.settings.idempotency_kept_s),
        )
        await raw.execute("DELETE FROM answer WHERE created_at < now() - interval '1 hour'")
        await raw.execute(webhooks.FORGET)
        await raw.execute("DELETE FROM sign_in_rate WHERE theoretical_arrival < now() - interval '1 hour'")
        await raw.execute("DELETE FROM refresh_family WHERE expires_at < $1", now)
