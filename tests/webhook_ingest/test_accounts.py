"""What Meta says of an account reaches each of our numbers that belong to it, and no other."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from contracts.instances import AccountStandingChanged, InstanceLimitsChanged, TemplateStatusChanged
from contracts.webhooks import WebhookReceived
from providers.meta_cloud.webhook import read_webhook
from providers.protocol import WebhookKeys
from webhook_ingest.admission import KnownInstance
from webhook_ingest.consumers import Translator
from webhook_ingest.directory import Directory
from webhook_ingest.reports import Report, Unplaced, read_reports

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAID_S = 1_790_000_000
ONE = KnownInstance(
    UUID(int=7), UUID(int=1), "meta_cloud", None, "106", "5511940000001", WebhookKeys(), business_id="W1"
)
TWO = replace(ONE, id=UUID(int=8), phone_number_id="107", phone_number="5511940000002")
ELSEWHERE = replace(ONE, id=UUID(int=9), account_id=UUID(int=2), phone_number_id="108", phone_number="5511940000003")
OTHER = replace(ONE, id=UUID(int=10), phone_number_id="109", phone_number="5511940000004", business_id="W2")
UNNAMED = replace(ONE, id=UUID(int=11), phone_number_id="110", phone_number="5511940000005", business_id=None)


def read(
    field: str, value: dict[str, Any], waba: str = "W1", account_ids: tuple[UUID, ...] | None = None
) -> tuple[list[Report], list[Unplaced]]:
    directory = Directory(object(), object())  # type: ignore[arg-type]
    directory.learn([ONE, TWO, ELSEWHERE, OTHER, UNNAMED])
    translator = Translator(directory, object(), batch_max=1)  # type: ignore[arg-type]

    body = orjson.dumps({"entry": [{"id": waba, "time": SAID_S, "changes": [{"field": field, "value": value}]}]})
    webhook = WebhookReceived(provider="meta", body=body.decode(), received_at=NOON, account_ids=account_ids)
    return read_reports(read_webhook(body), lambda _: None, NOON, partial(translator.find_numbers, webhook))


def limits(reports: list[Report]) -> dict[int, tuple[Any, ...]]:
    found = {}
    for report in reports:
        event = report.event
        assert isinstance(event, InstanceLimitsChanged)
        found[report.instance.id.int] = (
            event.unique_per_24h,
            event.unlimited,
            event.messages_per_second,
            event.quality,
        )
    return found


def test_an_accounts_own_app_is_believed_about_its_own_numbers_only() -> None:
    ban = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}
    reports, _ = read("account_update", ban, account_ids=(UUID(int=2),))
    assert [report.instance.id.int for report in reports] == [9]


def test_a_ban_reaches_every_number_of_the_account_and_no_other() -> None:
    reports, unplaced = read("account_update", {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}})
    assert unplaced == []
    assert sorted(report.instance.id.int for report in reports) == [7, 8, 9]
    assert {report.key for report in reports} == {str(UUID(int=7)), str(UUID(int=8)), str(UUID(int=9))}
    said = AccountStandingChanged(standing="disabled", reason="DISABLE", at=datetime.fromtimestamp(SAID_S, UTC))
    assert {report.event for report in reports} == {said}


def test_a_restriction_tells_its_end() -> None:
    info = [{"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": SAID_S + 60}]
    reports, _ = read("account_update", {"event": "ACCOUNT_RESTRICTION", "restriction_info": info})
    event = reports[0].event
    assert isinstance(event, AccountStandingChanged)
    assert (event.standing, event.until) == ("restricted", datetime.fromtimestamp(SAID_S + 60, UTC))


def test_the_limit_of_people_is_the_accounts_rate_and_quality_are_the_numbers() -> None:
    value = {"event": "FLAGGED", "display_phone_number": "+55 11 94000-0002",
             "max_daily_conversations_per_business": "TIER_2K"}  # fmt: skip
    reports, _ = read("phone_number_quality_update", value)
    assert limits(reports) == {
        7: (2000, False, None, None),
        8: (2000, False, None, "FLAGGED"),
        9: (2000, False, None, None),
    }
    reports, _ = read("phone_number_quality_update", value | {"event": "THROUGHPUT_UPGRADE"})
    assert limits(reports)[8] == (2000, False, 1000, None)
    reports, _ = read("business_capability_update", {"max_daily_conversations_per_business": -1}, "W2")
    assert limits(reports) == {10: (None, True, None, None)}


def test_a_number_whose_account_nobody_entered_is_found_by_itself() -> None:
    value = {"display_phone_number": "5511940000005", "max_daily_conversations_per_business": "TIER_250"}
    reports, unplaced = read("phone_number_quality_update", value, "W9")
    assert (list(limits(reports)), unplaced) == ([11], [])


def test_a_template_is_told_of_once_for_each_of_our_accounts() -> None:
    value = {"event": "PAUSED", "message_template_name": "promo", "message_template_language": "pt_BR"}
    reports, _ = read("message_template_status_update", value)
    assert [(report.instance.account_id.int, type(report.event)) for report in reports] == [
        (1, TemplateStatusChanged),
        (2, TemplateStatusChanged),
    ]


def test_what_concerns_sending_and_fits_no_number_is_kept() -> None:
    disabled = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}
    for field, value, kept in (
        ("account_update", disabled, 1),
        ("account_update", {"event": "PARTNER_ADDED"}, 0),
        ("business_capability_update", {"max_daily_conversations_per_business": 250}, 1),
        ("message_template_status_update", {"event": "PENDING", "message_template_name": "x"}, 0),
    ):
        reports, unplaced = read(field, value, "nobody's")
        assert (reports, len(unplaced)) == ([], kept)
