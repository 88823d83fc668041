"""Dead letters over HTTP: the filter as it is ordered, the preview as it is answered, campaigns that run again."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from campaign_api import consumers
from campaign_api.campaign.campaign import Campaign
from campaign_api.operation.dead_letters import reopen
from campaign_parts import Bench, Person, bench, heard
from chassis.lifecycle import utc_now
from contracts.campaigns import CampaignResumed
from contracts.envelope import Event
from contracts.instances import UnreadWebhookSettled, WebhookLeftUnread
from contracts.operations import (
    DeadLettersCleared,
    DeadLettersPreviewRequested,
    DeadLettersRequeued,
    UnreadWebhooksCleared,
    UnreadWebhooksReplayed,
)
from contracts.progress import CampaignDrained, DeadLetterGroup, DeadLettersPreviewed, DeadLettersTaken
from pombo.backing import Database

pytestmark = pytest.mark.postgres
QUEUE = "/api/whatsapp/queue/stats"
PREVIEW = "/api/whatsapp/queue/dead-letters/preview"


async def report(api: Bench, person: Person, campaign_id: str, event: Event) -> None:
    """campaign-progress as the consumer hears it."""
    async with api.application.parts.worker.transaction() as connection:
        record = heard("campaign-progress", campaign_id, person.account_id, event)
        await consumers.Progress(utc_now).handle(connection, [record])


async def test_what_is_named_is_what_is_ordered(api: Bench, ana: Person) -> None:
    one, two, campaign = uuid4(), uuid4(), uuid4()
    bodies = (
        {"action": "retry_dlq", "jobId": str(one)},
        {"action": "retry_dlq", "jobIds": [str(one), str(two), str(one)], "reason": "provider_busy"},
        {"action": "clear", "jobId": str(two)},
        {"action": "clear", "campaign_id": str(campaign), "reason": "media_refused"},
    )
    for body in bodies:
        assert (await ana.client.post(QUEUE, json=body)).json() == {"success": True}
    orders = [event for topic, _, event in await api.outbox(ana.account_id) if topic == "operations"]
    by = ana.user_id
    assert orders == [
        DeadLettersRequeued(dispatch_ids=(one,), by=by),
        DeadLettersRequeued(dispatch_ids=(one, two), reason="provider_busy", by=by),
        DeadLettersCleared(dispatch_ids=(two,), by=by),
        DeadLettersCleared(campaign_id=campaign, reason="media_refused", by=by),
    ]
    entries = await api.rows(
        "SELECT action, details FROM audit WHERE account_id = $1 AND action LIKE 'queue.%' ORDER BY position",
        ana.account_id,
    )
    assert [row["action"] for row in entries] == ["queue.retry_dlq"] * 2 + ["queue.clear"] * 2
    assert entries[3]["details"] == {"action": "clear", "campaign_id": str(campaign), "reason": "media_refused"}


async def test_a_preview_is_the_schedulers_answer_and_orders_nothing(api_database: Database) -> None:
    async with bench(api_database, answer_wait_s=20.0) as api:
        person = await api.admin()
        campaign = uuid4()
        group = DeadLetterGroup(
            campaign_id=campaign, instance_id=uuid4(), reason="provider_busy", fate="campaign_reopened", count=7
        )

        async def answer() -> None:
            while not (asked := await _asked(api, person.account_id)):
                await asyncio.sleep(0.02)
            assert asked[0].reason == "provider_busy"
            told = DeadLettersPreviewed(request_id=asked[0].request_id, groups=(group,), again=7)
            await report(api, person, str(campaign), told)

        body = {"campaign_id": str(campaign), "reason": "provider_busy"}
        shown, _ = await asyncio.gather(person.client.post(PREVIEW, json=body), answer())
        assert shown.status_code == 200, shown.text
        assert shown.json() == {"groups": [group.model_dump(mode="json")], "again": 7}
        kinds = {type(event) for topic, _, event in await api.outbox(person.account_id) if topic == "operations"}
        assert kinds == {DeadLettersPreviewRequested}


async def test_a_restricted_operator_previews_their_own_campaigns_only(api_database: Database) -> None:
    async with bench(api_database, answer_wait_s=20.0) as api:
        ana = await api.admin()
        restrict = "UPDATE account SET operators_restricted = true WHERE account_id = $1 RETURNING 1"
        await api.rows(restrict, ana.account_id)
        operator = await api.colleague(ana, "operator")
        own = (await operator.client.post("/api/campaigns", json={"name": "minha"})).json()["id"]
        others = (await ana.client.post("/api/campaigns", json={"name": "dela"})).json()["id"]
        groups = tuple(
            DeadLetterGroup(campaign_id=UUID(one), instance_id=uuid4(), reason="x", fate="released", count=count)
            for one, count in ((own, 2), (others, 5))
        )

        async def answer() -> None:
            while not (asked := await _asked(api, ana.account_id)):
                await asyncio.sleep(0.02)
            told = DeadLettersPreviewed(request_id=asked[0].request_id, groups=groups, again=7)
            await report(api, ana, own, told)

        shown, _ = await asyncio.gather(operator.client.post(PREVIEW, json={}), answer())
        assert shown.json() == {"groups": [groups[0].model_dump(mode="json")], "again": 2}


async def _asked(api: Bench, account_id: UUID) -> list[DeadLettersPreviewRequested]:
    return [event for _, _, event in await api.outbox(account_id) if isinstance(event, DeadLettersPreviewRequested)]


async def test_without_a_scheduler_the_preview_says_so(ana: Person) -> None:
    assert (await ana.client.post(PREVIEW, json={})).status_code == 504


async def test_a_completed_campaign_runs_again_for_its_dead_letters_once(api: Bench, ana: Person) -> None:
    campaign = await ana.campaign(is_draft=False)
    await report(api, ana, campaign["id"], CampaignDrained(run_epoch=1, planned=3))
    assert (await ana.client.get(f"/api/campaigns/{campaign['id']}")).json()["status"] == "completed"
    taken = DeadLettersTaken(run_epoch=1, count=2, by=ana.user_id)
    for _ in range(2):
        await report(api, ana, campaign["id"], taken)
    assert (await ana.client.get(f"/api/campaigns/{campaign['id']}")).json()["status"] == "running"
    resumed = [event for _, _, event in await api.outbox(ana.account_id) if isinstance(event, CampaignResumed)]
    assert resumed == [CampaignResumed(run_epoch=2, by=ana.user_id, retry="none")]


@pytest.mark.parametrize("status", ["draft", "running", "pausing", "paused", "cancelling", "cancelled", "deleted"])
def test_a_campaign_that_has_not_ended_is_left_as_it_is(status: str) -> None:
    campaign = Campaign(status=status, run_epoch=1)  # type: ignore[arg-type]
    assert reopen(campaign, taken=DeadLettersTaken(run_epoch=1, count=2)) == []


async def test_webhooks_that_were_not_translated_are_counted_tried_again_and_cleared_by_their_account_alone(
    api: Bench, ana: Person, rival: Person
) -> None:
    number, other = uuid4(), uuid4()
    first, second, third = (uuid4() for _ in range(3))

    async def hear(instance_id: UUID, *events: WebhookLeftUnread | UnreadWebhookSettled) -> None:
        async with api.application.parts.worker.transaction() as connection:
            records = [heard("instance-health", instance_id, ana.account_id, event) for event in events]
            await consumers.Health(utc_now).handle(connection, records)

    def left(webhook_id: UUID, reason: str) -> WebhookLeftUnread:
        now = utc_now()
        return WebhookLeftUnread(webhook_id=webhook_id, reason=reason, received_at=now - timedelta(hours=1), at=now)

    async def figures(person: Person, where: str = "") -> dict[str, Any]:
        found: dict[str, Any] = (await person.client.get(QUEUE + where)).json()["webhooks"]
        return found

    await hear(number, left(first, "not_json"), left(first, "not_json"), left(second, "no_event"))
    await hear(other, left(third, "not_json"))
    shown = await figures(ana)
    assert (shown["dead_letters"], shown["pending"]) == (3, None)
    assert 3600 <= shown["oldest_age_s"] < 3700
    assert (await figures(ana, f"?instanceId={number}"))["dead_letters"] == 2
    assert (await figures(rival))["dead_letters"] == 0

    asked = {"queue": "webhooks", "reason": "not_json"}
    found = (await ana.client.post(PREVIEW, json=asked)).json()
    assert found["again"] == 2
    assert {(one["instance_id"], one["reason"], one["fate"]) for one in found["groups"]} == {
        (str(number), "not_json", "released"),
        (str(other), "not_json", "released"),
    }
    assert (await rival.client.post(PREVIEW, json=asked)).json() == {"groups": [], "again": 0}

    one = {"queue": "webhooks", "action": "retry_dlq", "jobId": str(first)}
    assert (await ana.client.post(QUEUE, json=one)).status_code == 200
    every = {"queue": "webhooks", "action": "clear", "instance_id": str(number)}
    assert (await ana.client.post(QUEUE, json=every)).status_code == 200
    orders = [event for _, _, event in await api.outbox(ana.account_id) if isinstance(event, ORDERS)]
    assert orders == [
        UnreadWebhooksReplayed(webhook_ids=(first,), by=ana.user_id),
        UnreadWebhooksCleared(instance_id=number, by=ana.user_id),
    ]
    for refused in ({"action": "recover_stuck"}, {"action": "clear", "campaign_id": str(uuid4())}):
        assert (await ana.client.post(QUEUE, json={"queue": "webhooks"} | refused)).status_code == 422

    await hear(number, UnreadWebhookSettled(webhook_id=first, outcome="translated", at=utc_now()))
    assert (await figures(ana))["dead_letters"] == 2


ORDERS = (UnreadWebhooksReplayed, UnreadWebhooksCleared)
