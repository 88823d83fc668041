"""What a provider says of the account behind a number stops it, with reason and end, and frees it again."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from contracts.codec import decode
from contracts.envelope import Envelope
from contracts.instances import AccountStandingChanged, BreakerClosed, BreakerOpened, InstanceConfigured
from sender.instance import standing, stops
from sender.instance.care import Care
from sender.instance.recoveries import Recoveries
from sender.instance.rests import begin_rest
from sender.instance.rules import Rests, restrict
from sender.instance.standing import DISABLED, RESTRICTED
from sender.instance.warm_up import Policy
from sender_ledger import NUMBER, Ledger
from sender_parts import ACCOUNT

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


async def hear(ledger: Ledger, event: Any) -> None:
    envelope = Envelope(uuid4(), "t", 1, "tests", str(NUMBER), datetime.now(UTC), ACCOUNT)
    async with ledger.database.transaction() as connection:
        if isinstance(event, AccountStandingChanged):
            await standing.heed(connection, envelope, event, Policy())
        else:
            await stops.heed(connection, envelope, event)


async def say(ledger: Ledger, word: Any, at: datetime = NOW, until: datetime | None = None) -> None:
    await hear(ledger, AccountStandingChanged(standing=word, reason="SOME_WORD", until=until, at=at))


def configured(**changes: Any) -> InstanceConfigured:
    return InstanceConfigured(**{"name": "n", "provider": "meta_cloud", "server_url": ""} | changes)


async def seen(ledger: Ledger) -> tuple[str | None, str | None]:
    """Why the number stands, and why it rests."""
    (row,) = await ledger.read("SELECT stopped_reason, rest_reason, rest_until > now() AS rests FROM instance")
    return row["stopped_reason"], row["rest_reason"] if row["rests"] else None


async def told(ledger: Ledger) -> list[tuple[str, datetime | None] | str]:
    rows = await ledger.read("SELECT headers ->> 'ce_type' AS type, value FROM outbox ORDER BY position")
    events = [decode(row["type"].rpartition(".")[2], 1, bytes(row["value"])) for row in rows]
    return [
        (event.reason, event.until) if isinstance(event, BreakerOpened) else type(event).__name__ for event in events
    ]


def test_the_longer_of_two_rests_holds_and_a_restriction_is_no_strike() -> None:
    assert restrict(Rests(2, NOW + HOUR), NOW + 2 * HOUR) == Rests(2, NOW + 2 * HOUR)
    assert restrict(Rests(2, NOW + 3 * HOUR), NOW + HOUR) == Rests(2, NOW + 3 * HOUR)
    assert restrict(Rests(), NOW + HOUR) == Rests(0, NOW + HOUR)


@pytest.mark.postgres
async def test_a_disabled_account_stops_the_number_until_it_is_reinstated(ledger: Ledger) -> None:
    await hear(ledger, configured())
    await say(ledger, "disabled")
    await say(ledger, "disabled")
    assert await seen(ledger) == (DISABLED, None)
    assert await told(ledger) == [(DISABLED, None)]
    await say(ledger, "good", NOW + HOUR)
    assert await seen(ledger) == (None, None)
    assert (await told(ledger))[1:] == [BreakerClosed.__name__]
    await say(ledger, "disabled", NOW)
    assert await seen(ledger) == (None, None), "an older word that comes late changes nothing"


@pytest.mark.postgres
async def test_a_restriction_ends_by_itself_or_with_the_providers_word(ledger: Ledger) -> None:
    await hear(ledger, configured())
    recoveries = Recoveries(ledger.database, Policy(), lambda: None)
    await say(ledger, "restricted", until=NOW - HOUR)
    assert await seen(ledger) == (None, None), "its end has passed"
    await say(ledger, "restricted", NOW + HOUR, until=NOW + 24 * HOUR)
    assert await seen(ledger) == (None, RESTRICTED)
    assert await told(ledger) == [(RESTRICTED, NOW + 24 * HOUR)]
    await recoveries.sweep()
    assert len(await told(ledger)) == 1
    await say(ledger, "good", NOW + 2 * HOUR)
    await recoveries.sweep()
    assert await seen(ledger) == (None, None)
    assert (await told(ledger))[1:] == [BreakerClosed.__name__]


@pytest.mark.postgres
async def test_the_last_word_replaces_the_one_before(ledger: Ledger) -> None:
    await hear(ledger, configured())
    await say(ledger, "restricted")
    assert await seen(ledger) == (RESTRICTED, None), "without an end it stands until it is good again"
    await say(ledger, "restricted", NOW + HOUR, until=NOW + 24 * HOUR)
    assert await seen(ledger) == (None, RESTRICTED)
    await say(ledger, "disabled", NOW + 2 * HOUR)
    assert (await seen(ledger))[0] == DISABLED
    await say(ledger, "good", NOW + 3 * HOUR)
    await Recoveries(ledger.database, Policy(), lambda: None).sweep()
    assert await seen(ledger) == (None, None)
    assert (await told(ledger))[-1] == BreakerClosed.__name__


@pytest.mark.postgres
async def test_reinstated_lifts_no_stop_and_no_rest_of_another_cause(ledger: Ledger) -> None:
    await hear(ledger, configured())
    async with ledger.database.transaction() as connection:
        assert await begin_rest(connection, NUMBER, "spam_limit", NOW, Care().rules)
    await say(ledger, "restricted", until=NOW + timedelta(minutes=1))
    assert await seen(ledger) == (None, "spam_limit"), "it lasts longer"
    await ledger.read("UPDATE instance SET stopped_reason = 'credentials' RETURNING 1 AS done")
    await say(ledger, "good", NOW + HOUR)
    assert await seen(ledger) == ("credentials", "spam_limit")


@pytest.mark.postgres
async def test_a_person_who_looked_at_it_lets_it_go_on_and_a_warning_stops_nothing(ledger: Ledger) -> None:
    await hear(ledger, configured())
    await say(ledger, "warned")
    assert await seen(ledger) == (None, None)
    await say(ledger, "disabled")
    await hear(ledger, configured(name="looked at"))
    assert await seen(ledger) == (None, None)
