"""A gateway that is down, as the sender's process meets it: real Kafka and PostgreSQL, and nobody at its address."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from backing import MakeDatabase
from contracts.instances import BreakerClosed, BreakerOpened
from contracts.messages import MessageAmbiguous, MessageFailed, MessageReturned, MessageSent
from sender_parts import configured, fresh_ids, migrated
from sender_stage import Stage, add_number, staged
from simulated_providers import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.stack]


@pytest.fixture
def nobody_at() -> Iterator[str]:
    """An address that is ours and refuses every connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening
        yield f"127.0.0.1:{taken.getsockname()[1]}"


async def test_a_host_that_is_down_stops_its_numbers_together_and_no_others(
    database_factory: MakeDatabase, kafka_bootstrap: str, tmp_path: Path, nobody_at: str
) -> None:
    """Each number alone has failed far less often than would stop it."""
    database = database_factory(migrated)
    settings = {"HOST_FAILURES": "4", "BREAKER_FAILURES": "1000", "BREAKER_OPEN_S": "600", "CONNECT_TRIES": "1"}
    async with staged(database, kafka_bootstrap, tmp_path, None, **settings) as stage:
        stage.senders.environment["ALLOWED_HOSTS"] = f'["{stage.simulator.url.removeprefix("http://")}", "{nobody_at}"]'
        well = await add_number(stage)
        down = fresh_ids(2)
        records = [configured(one, f"http://{nobody_at}", f"1000{n}") for n, one in enumerate(down)]
        await stage.producer.publish(records)
        stage.senders.start()
        for one in down:
            await stage.queue(one, 30)
        await stage.queue(well, 30)

        async def over() -> bool:
            await stage.release_again()
            return len(stage.dispatches(MessageSent)) == 30 and len(_opened(stage)) == 2 and len(_back(stage)) == 60

        await eventually(over, deadline_s=120)
        assert {key for key, _ in _opened(stage)} == {str(one) for one in down}
        assert {reason for _, reason in _opened(stage)} == {"host_down"}
        assert stage.of(MessageAmbiguous, BreakerClosed) == []
        # What was under way when the breaker opened failed as well; nothing was tried after that.
        tried = [event for event in stage.of(MessageFailed) if event.instance_id in down]
        assert all(event.retryable and not event.counts for event in tried)
        assert {event.reason for event in stage.of(MessageReturned) if event.instance_id in down} >= {"breaker"}


def _opened(stage: Stage) -> set[tuple[str, str]]:
    return {
        (one.envelope.subject, one.event.reason)
        for one in stage.told
        if isinstance(one.event, BreakerOpened) and one.envelope.subject in stage.mine
    }


def _back(stage: Stage) -> set[str]:
    """Failed without having left, or returned."""
    return stage.dispatches(MessageFailed) | stage.dispatches(MessageReturned)
