"""Campaigns over HTTP, on a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from campaign_api import consumers
from campaign_parts import Bench, Person, bench, campaign_body, contacts, heard
from chassis.lifecycle import utc_now
from contracts.campaigns import CampaignStarted, RecipientsAdded
from contracts.operations import ExplainRequested, PlanPreviewRequested
from contracts.progress import CampaignDrained, GateClosed, LaneExplained, PlanPreviewed
from pombo.backing import Database

pytestmark = pytest.mark.postgres


async def report(api: Bench, person: Person, campaign_id: str, event: Any) -> None:
    """campaign-progress as the consumer hears it."""
    async with api.application.parts.worker.transaction() as connection:
        record = heard("campaign-progress", campaign_id, person.account_id, event)
        await consumers.Progress(utc_now).handle(connection, [record])


async def test_a_draft_needs_only_a_name(ana: Person) -> None:
    answer = await ana.client.post("/api/campaigns", json={"name": "Rascunho"})
    assert answer.status_code == 201
    assert answer.json()["status"] == "draft"
    assert answer.headers["location"].endswith(answer.json()["id"])


async def test_is_draft_false_starts_at_once_with_its_recipients(api: Bench, ana: Person) -> None:
    campaign = await ana.campaign(is_draft=False, contacts=contacts(1200))
    assert campaign["status"] == "running"
    assert campaign["total_contacts"] == 1200
    events = [event for topic, _, event in await api.outbox(ana.account_id) if topic.startswith("campaign")]
    started = next(event for event in events if isinstance(event, CampaignStarted))
    chunks = [event for event in events if isinstance(event, RecipientsAdded)]
    assert (started.chunk_count, started.recipient_count, started.run_epoch) == (3, 1200, 1)
    assert [chunk.chunk for chunk in chunks] == [0, 1, 2]
    assert sum(len(chunk.recipients) for chunk in chunks) == 1200


async def audiences(api: Bench, person: Person) -> list[RecipientsAdded]:
    return [event for _, _, event in await api.outbox(person.account_id) if isinstance(event, RecipientsAdded)]


async def test_a_drafts_audience_is_published_when_it_is_made_and_again_when_it_is_replaced(
    api: Bench, ana: Person
) -> None:
    campaign = await ana.campaign(contacts=contacts(700))
    url = f"/api/campaigns/{campaign['id']}"
    assert [(chunk.chunk, chunk.first_chunk) for chunk in await audiences(api, ana)] == [(0, 0), (1, 0)]

    changes: tuple[Any, ...] = (contacts(3), [], contacts(2))
    for people in changes:
        assert (await ana.client.patch(url, json={"contacts": people})).status_code == 200
    told = await audiences(api, ana)
    assert [(chunk.chunk, chunk.first_chunk, len(chunk.recipients)) for chunk in told[2:]] == [
        (2, 2, 3), (3, 3, 0), (4, 4, 2),
    ]  # fmt: skip
    shown = (await ana.client.get(f"{url}/check")).json()
    assert (shown["total_contacts"], len(shown["preview"])) == (2, 1)

    assert (await ana.client.post(f"{url}/start")).status_code == 200
    assert len(await audiences(api, ana)) == len(told)
    (started,) = [e for _, _, e in await api.outbox(ana.account_id) if isinstance(e, CampaignStarted)]
    assert (started.first_chunk, started.chunk_count, started.recipient_count) == (4, 1, 2)


async def test_a_start_and_a_new_audience_at_the_same_time_agree(api: Bench, ana: Person) -> None:
    campaign = await ana.campaign()
    url = f"/api/campaigns/{campaign['id']}"
    answers = await asyncio.gather(
        ana.client.patch(url, json={"contacts": contacts(2)}),
        ana.client.post(f"{url}/start"),
        ana.client.patch(url, json={"contacts": contacts(1)}),
    )
    assert answers[1].status_code == 200
    (started,) = [e for _, _, e in await api.outbox(ana.account_id) if isinstance(e, CampaignStarted)]
    newest = (await audiences(api, ana))[-1]
    assert (started.first_chunk, started.recipient_count) == (newest.first_chunk, len(newest.recipients))


async def test_pause_waits_for_the_gate_and_answers_paused(api: Bench, ana: Person) -> None:
    campaign = await ana.campaign(is_draft=False)

    async def close() -> None:
        await asyncio.sleep(0.05)
        await report(api, ana, campaign["id"], GateClosed(run_epoch=1))

    answer, _ = await asyncio.gather(ana.client.put(f"/api/campaigns/{campaign['id']}/pause"), close())
    assert answer.status_code == 200
    assert answer.json()["success"] is True
    assert answer.json()["campaign"]["status"] == "paused"


async def test_pause_answers_pausing_where_the_gate_takes_longer(api: Bench, ana: Person) -> None:
    campaign = await ana.campaign(is_draft=False)
    url = f"/api/campaigns/{campaign['id']}"
    assert (await ana.client.put(f"{url}/pause")).json()["campaign"]["status"] == "pausing"
    assert (await ana.client.put(f"{url}/pause")).status_code == 200
    refused = await ana.client.put(f"{url}/resume")
    assert refused.status_code == 400
    assert "pausing" in refused.json()["error"]
    await report(api, ana, campaign["id"], GateClosed(run_epoch=1))
    resumed = await ana.client.put(f"{url}/resume")
    assert resumed.json()["campaign"]["status"] == "running"
    assert resumed.json()["campaign"]["run_epoch"] == 2


async def test_only_running_campaigns_can_be_paused(ana: Person) -> None:
    campaign = await ana.campaign()
    answer = await ana.client.put(f"/api/campaigns/{campaign['id']}/pause")
    assert answer.status_code == 400
    assert answer.json()["error"] == "Only running campaigns can be paused"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_drained_run_completes_the_campaign(api: Bench, ana: Person) -> None:
    campaign = await ana.campaign(is_draft=False)
    await report(api, ana, campaign["id"], CampaignDrained(run_epoch=1, planned=2))
    assert (await ana.client.get(f"/api/campaigns/{campaign['id']}")).json()["status"] == "running"
    await report(api, ana, campaign["id"], CampaignDrained(run_epoch=1, planned=3))
    done = (await ana.client.get(f"/api/campaigns/{campaign['id']}")).json()
    assert done["status"] == "completed"
    assert done["completed_at"] is not None


async def test_all_or_nothing(api: Bench, ana: Person) -> None:
    body = campaign_body(await ana.instance()) | {"is_draft": False, "contacts": [{"phone_number": "123"}]}
    answer = await ana.client.post("/api/campaigns", json=body)
    assert answer.status_code == 400
    assert (await ana.client.get("/api/campaigns")).json() == []
    assert (
        await api.rows("SELECT 1 FROM event WHERE account_id = $1 AND stream_type = 'campaign'", ana.account_id) == []
    )


async def test_statistics_add_up_before_the_read_model_has_heard_anything(ana: Person) -> None:
    campaign = await ana.campaign(is_draft=False)
    figures = (await ana.client.get(f"/api/campaigns/{campaign['id']}/statistics")).json()
    assert figures["total_contacts"] == figures["pending_count"] == 3
    assert figures["delivery_rate"] == 0


async def test_the_estimated_end_is_the_schedulers_forecast_asked_for_now_and_then(api: Bench, ana: Person) -> None:
    campaign = await ana.campaign(is_draft=False)
    url = f"/api/campaigns/{campaign['id']}/statistics"
    asked = [event for event in await of_outbox(api, ana) if isinstance(event, ExplainRequested)]
    assert asked == []
    for _ in range(5):
        assert (await ana.client.get(url)).json()["estimated_end"] is None
    asked = [event for event in await of_outbox(api, ana) if isinstance(event, ExplainRequested)]
    assert 1 <= len(asked) <= 2, "once in each span of time, however often somebody looks"
    assert (asked[-1].campaign_id, asked[-1].run_epoch) == (UUID(campaign["id"]), 1)
    end = datetime(2030, 1, 1, tzinfo=UTC)
    answer = LaneExplained(request_id=asked[-1].request_id, reasons=(), estimated_end=end)
    await report(api, ana, campaign["id"], answer)
    assert (await ana.client.get(url)).json()["estimated_end"] == "2030-01-01T00:00:00Z"
    draft = await ana.campaign()
    assert (await ana.client.get(f"/api/campaigns/{draft['id']}/statistics")).json()["estimated_end"] is None


async def of_outbox(api: Bench, person: Person) -> list[Any]:
    return [event for _, _, event in await api.outbox(person.account_id)]


async def test_the_same_idempotency_key_makes_one_campaign(ana: Person) -> None:
    body = campaign_body(await ana.instance())
    headers = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(ana.client.post("/api/campaigns", json=body, headers=headers) for _ in range(20)))
    made = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    again = await ana.client.post("/api/campaigns", json=body, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] in made
    other = await ana.client.post("/api/campaigns", json=body | {"name": "Outra"}, headers=headers)
    assert other.status_code == 422
    assert len((await ana.client.get("/api/campaigns")).json()) == 1


async def test_an_edit_on_an_old_version_is_refused(ana: Person) -> None:
    campaign = await ana.campaign()
    url = f"/api/campaigns/{campaign['id']}"
    tag = (await ana.client.get(url)).headers["etag"]
    changed = await ana.client.patch(url, json={"name": "Novo nome"}, headers={"If-Match": tag})
    assert changed.json()["name"] == "Novo nome"
    assert changed.json()["messages"] == campaign["messages"]
    stale = await ana.client.patch(url, json={"name": "Velho"}, headers={"If-Match": tag})
    assert stale.status_code == 412


async def test_pages_follow_the_link_header(ana: Person) -> None:
    for number in range(5):
        await ana.client.post("/api/campaigns", json={"name": f"C{number}"})
    seen, url = [], "/api/campaigns?limit=2"
    while url:
        answer = await ana.client.get(url)
        seen += [campaign["name"] for campaign in answer.json()]
        url = answer.links["next"]["url"] if "next" in answer.links else ""
    assert seen == ["C4", "C3", "C2", "C1", "C0"]


async def test_a_draft_shows_its_plan_before_it_starts(api_database: Database) -> None:
    async with bench(api_database, answer_wait_s=20.0) as api:
        ana = await api.admin()
        campaign = await ana.campaign()

        async def scheduler() -> None:
            while not (asked := await requests(api, ana)):
                await asyncio.sleep(0.01)
            assert (asked[0].definition is not None, asked[0].recipient_count) == (True, 3)
            found = PlanPreviewed(
                request_id=asked[0].request_id,
                by_instance={campaign["api_config_id"]: 3},
                problems=("ends_after_validity", "instance_banned: x"),
                estimated_end=utc_now(),
            )
            await report(api, ana, campaign["id"], found)

        answer, _ = await asyncio.gather(ana.client.get(f"/api/campaigns/{campaign['id']}/check"), scheduler())
    shown = answer.json()
    assert (shown["ready"], shown["total_contacts"], shown["total_messages"]) == (True, 3, 3)
    assert shown["by_instance"] == {campaign["api_config_id"]: 3}
    assert shown["estimated_end"] is not None
    assert ["valid_until" in problem for problem in shown["problems"]] == [True]


async def test_what_cannot_start_is_not_planned(api: Bench, ana: Person) -> None:
    draft = (await ana.client.post("/api/campaigns", json={"name": "Rascunho"})).json()
    shown = (await ana.client.get(f"/api/campaigns/{draft['id']}/check")).json()
    assert (shown["ready"], shown["missing"]) == (False, ["instance", "messages", "contacts"])
    assert (shown["by_instance"], shown["estimated_end"]) == (None, None)
    assert await requests(api, ana) == []


async def requests(api: Bench, person: Person) -> list[PlanPreviewRequested]:
    return [event for _, _, event in await api.outbox(person.account_id) if isinstance(event, PlanPreviewRequested)]


async def test_a_clone_has_the_audience_under_ids_of_its_own(api: Bench, ana: Person) -> None:
    campaign = await ana.campaign()
    clone = await ana.client.post(f"/api/campaigns/{campaign['id']}/clone", json={"name": "Cópia"})
    assert clone.status_code == 201
    assert clone.json()["total_contacts"] == 3
    started = await ana.client.post(f"/api/whatsapp/campaigns/{clone.json()['id']}/send")
    assert started.json()["campaign"]["status"] == "running"
    chunks = [event for _, _, event in await api.outbox(ana.account_id) if isinstance(event, RecipientsAdded)]
    assert len({recipient.recipient_id for chunk in chunks for recipient in chunk.recipients}) == 3 + 3


async def test_another_account_sees_nothing_of_it(ana: Person, rival: Person) -> None:
    campaign = await ana.campaign(is_draft=False)
    url = f"/api/campaigns/{campaign['id']}"
    for method, path in (
        ("GET", url),
        ("GET", f"{url}/statistics"),
        ("GET", f"{url}/recipients"),
        ("PUT", f"{url}/pause"),
        ("PUT", f"{url}/cancel"),
        ("DELETE", url),
    ):
        answer = await rival.client.request(method, path)
        assert answer.status_code == 404, (method, path, answer.text)
    assert (await ana.client.get(url)).json()["status"] == "running"
    assert UUID(campaign["id"])
