# ruff: noqa: E501 - a payload reads better on one line
"""Meta's webhooks: everything in one POST, in its order."""

from typing import Any

import orjson
import pytest

from providers.address import Address
from providers.events import (
    AccountSeen,
    CallSeen,
    ChannelErrorSeen,
    ContactSeen,
    DeleteSeen,
    EditSeen,
    GroupSeen,
    HistorySeen,
    Ignored,
    LimitSeen,
    MessageSeen,
    PreferenceSeen,
    ReactionSeen,
    StatusSeen,
    SystemSeen,
    TemplateSeen,
    UnreadablePayload,
    WebhookEvent,
)
from providers.registry import PROVIDERS

META = PROVIDERS["meta_cloud"]
METADATA = {"display_phone_number": "551140000001", "phone_number_id": "PN1"}


def read(value: dict[str, Any], field: str = "messages", **entry: Any) -> list[WebhookEvent]:
    body = {
        "object": "whatsapp_business_account",
        "entry": [{"id": "WABA", "changes": [{"field": field, "value": value}], **entry}],
    }
    return META.read_webhook(orjson.dumps(body))


def one(message: dict[str, Any], **value: Any) -> WebhookEvent:
    message = {"from": "553188880001", "id": "wamid.1", "timestamp": "1790000001", **message}
    contacts = [{"wa_id": "553188880001", "profile": {"name": "Ana"}}]
    events = read({"metadata": METADATA, "contacts": contacts, "messages": [message], **value})
    assert len(events) == 1
    return events[0]


def status(**fields: Any) -> WebhookEvent:
    row = {"id": "wamid.OUT", "status": "sent", "timestamp": "1790000002", "recipient_id": "553188880001", **fields}
    events = read({"metadata": METADATA, "statuses": [row]})
    assert len(events) == 1
    return events[0]


def test_a_text() -> None:
    event = one({"type": "text", "text": {"body": "oi"}, "context": {"id": "wamid.OUT"}})
    assert isinstance(event, MessageSeen)
    assert (event.key, event.channel, event.id, event.at_ms) == (
        "message|PN1|wamid.1",
        "PN1",
        "wamid.1",
        1_790_000_001_000,
    )
    assert (event.type, event.text, event.reply_to, event.profile) == ("text", "oi", "wamid.OUT", "Ana")
    assert (event.direction, event.origin, event.peer) == ("in", "contact", Address(phone="553188880001"))
    assert event.raw["text"] == {"body": "oi"}


@pytest.mark.parametrize(
    ("message", "type_", "text", "choice"),
    [
        ({"type": "button", "button": {"payload": "SIM", "text": "Sim"}}, "button_reply", "Sim", "SIM"),
        (
            {"type": "interactive", "interactive": {"type": "button_reply", "button_reply": {"id": "1", "title": "Um"}}},
            "button_reply", "Um", "1",
        ),
        (
            {"type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"id": "2", "title": "Dois"}}},
            "list_reply", "Dois", "2",
        ),
        (
            {"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "[]"}}},
            "flow_reply", "Sent", None,
        ),
        ({"type": "contacts", "contacts": [{"name": {"formatted_name": "B"}}]}, "contacts", None, None),
        ({"type": "order", "order": {"catalog_id": "1", "text": "", "product_items": []}}, "order", None, None),
        ({"type": "something_new", "something_new": {}}, "unsupported", None, None),
    ],
)  # fmt: skip
def test_types_of_messages(message: dict[str, Any], type_: str, text: str | None, choice: str | None) -> None:
    event = one(message)
    assert isinstance(event, MessageSeen)
    assert (event.type, event.text, event.choice_id) == (type_, text, choice)


@pytest.mark.parametrize("kind", ["image", "video", "audio", "document", "sticker"])
def test_media_is_named_by_the_id_to_fetch_it_with(kind: str) -> None:
    media = {"id": "M1", "mime_type": "x/y", "filename": "f.bin", "caption": "c", "voice": True}
    event = one({"type": kind, kind: media})
    assert isinstance(event, MessageSeen)
    assert event.media is not None
    assert (event.type, event.media.id, event.media.mime_type, event.media.filename) == (kind, "M1", "x/y", "f.bin")
    assert event.voice is (True if kind == "audio" else None)


def test_a_voice_note_under_its_old_name() -> None:
    event = one({"type": "voice", "voice": {"id": "M1", "mime_type": "audio/ogg"}})
    assert isinstance(event, MessageSeen)
    assert event.media is not None
    assert (event.type, event.voice, event.media.id) == ("audio", True, "M1")


def test_a_location() -> None:
    event = one({"type": "location", "location": {"latitude": -19.5, "longitude": -43, "name": "Praça"}})
    assert isinstance(event, MessageSeen)
    assert event.location is not None
    assert (event.location.latitude, event.location.longitude, event.location.name) == (-19.5, -43.0, "Praça")


def test_a_message_whose_content_was_lost_keeps_metas_code() -> None:
    unsupported = one({"type": "unsupported", "errors": [{"code": 131051}]})
    emptied = one({"type": "interactive", "interactive": {}}, errors=[{"code": 131000}])
    assert isinstance(unsupported, MessageSeen)
    assert isinstance(emptied, MessageSeen)
    assert (unsupported.error_code, emptied.error_code) == (131051, 131000)


@pytest.mark.parametrize(
    ("reaction", "emoji"),
    [
        ({"message_id": "wamid.T", "emoji": "👍"}, "👍"),
        ({"message_id": "wamid.T"}, ""),
        ({"message_id": "wamid.T", "emoji": ""}, ""),
    ],
)
def test_a_reaction_and_its_removal(reaction: dict[str, Any], emoji: str) -> None:
    event = one({"type": "reaction", "reaction": reaction})
    assert isinstance(event, ReactionSeen)
    assert (event.target, event.emoji) == ("wamid.T", emoji)


def test_edits_and_deletions_are_about_another_message() -> None:
    edit = one(
        {
            "type": "edit",
            "edit": {"original_message_id": "wamid.T", "message": {"type": "text", "text": {"body": "novo"}}},
        }
    )
    gone = one({"type": "revoke", "revoke": {"original_message_id": "wamid.T"}})
    assert isinstance(edit, EditSeen)
    assert isinstance(gone, DeleteSeen)
    assert (edit.target, edit.text, gone.target) == ("wamid.T", "novo", "wamid.T")
    assert len({edit.key, gone.key, "message|PN1|wamid.1"}) == 3


def test_a_changed_number_is_a_notice() -> None:
    event = one({"type": "system", "system": {"type": "user_changed_number", "wa_id": "5531777"}})
    assert isinstance(event, SystemSeen)
    assert (event.event, event.new_phone) == ("user_changed_number", "5531777")


@pytest.mark.parametrize(
    ("who", "peer"),
    [
        ({"from": None, "from_user_id": "BR.1349"}, Address(bsuid="BR.1349")),
        ({"from": "BR.1349"}, Address(bsuid="BR.1349")),
        ({"from": "5531888", "from_user_id": "BR.1349"}, Address(phone="5531888", bsuid="BR.1349")),
    ],
)
def test_people_may_come_without_a_phone(who: dict[str, Any], peer: Address) -> None:
    event = one({"type": "text", "text": {"body": "oi"}, **who})
    assert isinstance(event, MessageSeen)
    assert event.peer == peer


def test_in_a_group_the_peer_is_the_group() -> None:
    event = one({"type": "text", "text": {"body": "oi"}, "group_id": "G1"})
    assert isinstance(event, MessageSeen)
    assert (event.peer, event.participant) == (Address(group="G1"), Address(phone="553188880001"))


def test_what_we_wrote_in_the_phones_app_is_outgoing() -> None:
    echo = {
        "from": "551140000001",
        "to": "5531888",
        "id": "wamid.E",
        "timestamp": "1790000001",
        "type": "text",
        "text": {"body": "x"},
    }
    (event,) = read({"metadata": METADATA, "message_echoes": [echo]}, "smb_message_echoes")
    assert isinstance(event, MessageSeen)
    assert (event.direction, event.origin, event.peer) == ("out", "phone", Address(phone="5531888"))


@pytest.mark.parametrize("word", ["sent", "delivered", "read", "played"])
def test_a_status_gives_our_label_back(word: str) -> None:
    event = status(status=word, biz_opaque_callback_data="dispatch:1", recipient_user_id="BR.9")
    assert isinstance(event, StatusSeen)
    assert (event.id, event.status, event.client_ref) == ("wamid.OUT", word, "dispatch:1")
    assert (event.key, event.peer) == (f"status|wamid.OUT|{word}", Address(phone="553188880001", bsuid="BR.9"))


def test_a_failure_says_why() -> None:
    event = status(status="failed", errors=[{"code": 131049, "title": "t", "error_data": {"details": "d"}}])
    assert isinstance(event, StatusSeen)
    assert event.failure is not None
    assert (event.failure.name, event.failure.error_class) == ("marketing_cap", "wait_24h")
    assert (event.error_code, event.error_text) == (131049, "d")


def test_a_failure_without_a_code_is_of_an_unknown_one() -> None:
    event = status(status="failed")
    assert isinstance(event, StatusSeen)
    assert event.failure is not None
    assert event.failure.name == "unknown_code"


def test_prices_come_with_a_status() -> None:
    event = status(pricing={"billable": True, "category": "marketing"})
    assert isinstance(event, StatusSeen)
    assert (event.billable, event.category) == (True, "marketing")


def test_groups_report_one_status_for_each_participant() -> None:
    keys = {status(recipient_type="group", recipient_id="G1", recipient_participant_id=who).key for who in ("1", "2")}
    assert len(keys) == 2


@pytest.mark.parametrize("word", ["warning", "deleted", "brand_new", None])
def test_an_unknown_status_is_kept_and_ignored(word: str | None) -> None:
    event = status(status=word)
    assert isinstance(event, Ignored)
    assert event.raw["id"] == "wamid.OUT"


def test_the_same_fact_has_the_same_key_whenever_it_is_delivered() -> None:
    assert status(timestamp="1790000002").key == status(timestamp="1790009999").key
    assert (
        one({"type": "text", "text": {"body": "a"}}).key
        == one({"type": "text", "text": {"body": "a"}, "new_field": 1}).key
    )


def test_one_post_may_mix_accounts_numbers_messages_and_statuses() -> None:
    def change(number: str, **value: Any) -> dict[str, Any]:
        return {"field": "messages", "value": {"metadata": {"phone_number_id": number}, **value}}

    text = {"from": "1", "id": "a", "timestamp": "1790000001", "type": "text", "text": {"body": "x"}}
    sent = {"id": "b", "status": "sent", "timestamp": "1790000001"}
    body = {"entry": [
        {"id": "W1", "changes": [change("PN1", messages=[text, {**text, "id": "c"}], statuses=[sent]), change("PN2", statuses=[sent])]},
        {"id": "W2", "changes": [change("PN3", statuses=[sent, {**sent, "status": "read"}])]},
    ]}  # fmt: skip
    events = META.read_webhook(orjson.dumps(body))
    assert [(type(event).__name__, event.channel) for event in events] == [
        ("MessageSeen", "PN1"),
        ("MessageSeen", "PN1"),
        ("StatusSeen", "PN1"),
        ("StatusSeen", "PN2"),
        ("StatusSeen", "PN3"),
        ("StatusSeen", "PN3"),
    ]


def test_a_fault_without_a_message_is_the_channels() -> None:
    (event,) = read({"metadata": METADATA, "errors": [{"code": 130429, "title": "t"}]})
    assert isinstance(event, ChannelErrorSeen)
    assert event.error_code == 130429


@pytest.mark.parametrize(
    ("field", "value", "tier", "people", "rate"),
    [
        ("phone_number_quality_update", {"event": "ONBOARDING", "max_daily_conversations_per_business": "TIER_2K"}, "TIER_2K", 2000, None),
        ("phone_number_quality_update", {"event": "FLAGGED", "current_limit": "TIER_250"}, "TIER_250", 250, None),
        ("phone_number_quality_update", {"event": "THROUGHPUT_UPGRADE", "max_daily_conversations_per_business": "TIER_UNLIMITED"}, "TIER_UNLIMITED", None, 1000),
        ("business_capability_update", {"max_daily_conversations_per_business": 10000}, 10000, 10000, None),
        ("business_capability_update", {"max_daily_conversations_per_business": -1}, -1, None, None),
    ],
)  # fmt: skip
def test_limits(field: str, value: dict[str, Any], tier: object, people: int | None, rate: int | None) -> None:
    (event,) = read(value, field)
    assert isinstance(event, LimitSeen)
    assert (event.tier, event.unique_per_24h, event.messages_per_second, event.account) == (tier, people, rate, "WABA")


def test_no_limit_is_told_apart_from_nothing_said() -> None:
    for field, value, unlimited in (
        ("business_capability_update", {"max_daily_conversations_per_business": -1}, True),
        ("phone_number_quality_update", {"max_daily_conversations_per_business": "TIER_UNLIMITED"}, True),
        ("phone_number_quality_update", {"event": "FLAGGED"}, False),
        ("business_capability_update", {"max_phone_numbers_per_business": 20}, False),
    ):
        (event,) = read(value, field)
        assert isinstance(event, LimitSeen)
        assert (event.unlimited, event.unique_per_24h) == (unlimited, None)


END = 1_790_086_400
BUSINESS, CUSTOMER, ADDING = (
    {"restriction_type": f"RESTRICTED_{kind}", "expiration": END + n}
    for n, kind in enumerate(("BIZ_INITIATED_MESSAGING", "CUSTOMER_INITIATED_MESSAGING", "ADD_PHONE_NUMBER_ACTION"))
)


@pytest.mark.parametrize(
    ("value", "standing", "reason", "until_ms"),
    [
        ({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}, "disabled", "DISABLE", None),
        ({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "SCHEDULE_FOR_DISABLE"}}, "warned", "SCHEDULE_FOR_DISABLE", None),
        ({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "REINSTATE"}}, "good", "REINSTATE", None),
        ({"event": "DISABLED_UPDATE"}, None, "", None),
        ({"event": "ACCOUNT_RESTRICTION", "restriction_info": [BUSINESS, CUSTOMER, ADDING]}, "restricted", "RESTRICTED_CUSTOMER_INITIATED_MESSAGING", (END + 1) * 1000),
        ({"event": "ACCOUNT_RESTRICTION", "restriction_info": [BUSINESS, {"restriction_type": CUSTOMER["restriction_type"]}]}, "restricted", "RESTRICTED_CUSTOMER_INITIATED_MESSAGING", None),
        ({"event": "ACCOUNT_RESTRICTION", "restriction_info": [ADDING]}, None, "", None),
        ({"event": "ACCOUNT_RESTRICTION"}, None, "", None),
        ({"event": "ACCOUNT_VIOLATION", "violation_info": {"violation_type": "ADULT"}}, "warned", "ADULT", None),
        ({"event": "ACCOUNT_DELETED"}, "disabled", "ACCOUNT_DELETED", None),
        ({"event": "ACCOUNT_OFFBOARDED"}, "disabled", "ACCOUNT_OFFBOARDED", None),
        ({"event": "ACCOUNT_RECONNECTED"}, "good", "ACCOUNT_RECONNECTED", None),
        ({"event": "VERIFIED_ACCOUNT"}, None, "", None),
        ({"event": "PARTNER_ADDED"}, None, "", None),
    ],
)  # fmt: skip
def test_what_an_account_update_means(value: dict[str, Any], standing: object, reason: str, until_ms: object) -> None:
    (event,) = read(value, "account_update")
    assert isinstance(event, AccountSeen)
    assert (event.standing, event.reason, event.until_ms) == (standing, reason, until_ms)


def test_only_alerts_that_warn_are_warnings() -> None:
    alert = {"alert_severity": "CRITICAL", "alert_type": "LOW_QUALITY"}
    (grave,) = read({"alert_info": alert}, "account_alerts")
    (plain,) = read(alert | {"alert_severity": "INFORMATIONAL"}, "account_alerts")
    assert isinstance(grave, AccountSeen)
    assert isinstance(plain, AccountSeen)
    assert (grave.standing, grave.reason, plain.standing) == ("warned", "LOW_QUALITY", None)


@pytest.mark.parametrize(
    ("status", "standing"),
    [
        ("APPROVED", "usable"), ("REINSTATED", "usable"), ("PAUSED", "paused"), ("DISABLED", "disabled"),
        ("REJECTED", None), ("PENDING", None), ("IN_APPEAL", None), ("FLAGGED", None),
    ],
)  # fmt: skip
def test_whether_a_template_may_be_sent(status: str, standing: object) -> None:
    value = {"event": status, "message_template_name": "promo"}
    (event,) = read(value, "message_template_status_update")
    (other,) = read(value, "message_template_components_update")
    assert isinstance(event, TemplateSeen)
    assert isinstance(other, TemplateSeen)
    assert (event.standing, other.standing) == (standing, None)


def test_a_paused_template() -> None:
    value = {
        "event": "PAUSED",
        "message_template_name": "promo",
        "message_template_language": "pt_BR",
        "reason": "NONE",
    }
    (event,) = read(value, "message_template_status_update")
    assert isinstance(event, TemplateSeen)
    assert (event.event, event.name, event.language) == ("PAUSED", "promo", "pt_BR")


@pytest.mark.parametrize("field", ["account_update", "account_alerts", "account_review_update", "security"])
def test_news_of_the_account(field: str) -> None:
    (event,) = read({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}, field)
    assert isinstance(event, AccountSeen)
    assert (event.event, event.account) == ("DISABLED_UPDATE", "WABA")


def test_news_of_the_account_are_told_apart_by_what_they_say_and_the_day() -> None:
    value = {"event": "ACCOUNT_VIOLATION"}
    day = 1_790_000_000
    (first,), (again,) = read(value, "account_update", time=day), read(value, "account_update", time=day + 60)
    (later,) = read(value, "account_update", time=day + 86_400)
    (other,) = read({"event": "ACCOUNT_DELETED"}, "account_update", time=day)
    assert first.key == again.key
    assert len({first.key, later.key, other.key}) == 3


def test_a_person_stops_marketing() -> None:
    row = {
        "wa_id": "5531",
        "user_id": "BR.1",
        "category": "marketing_messages",
        "value": "stop",
        "timestamp": 1790000001,
    }
    (event,) = read({"metadata": METADATA, "user_preferences": [row]}, "user_preferences")
    assert isinstance(event, PreferenceSeen)
    assert (event.event, event.peer, event.at_ms) == ("stop", Address(phone="5531", bsuid="BR.1"), 1_790_000_001_000)


def test_calls_groups_history_and_contacts() -> None:
    call = {
        "id": "C1",
        "from": "5531",
        "to": "5511",
        "event": "connect",
        "direction": "USER_INITIATED",
        "timestamp": "1790000001",
    }
    (seen_call,) = read({"metadata": METADATA, "calls": [call]}, "calls")
    assert isinstance(seen_call, CallSeen)
    assert (seen_call.event, seen_call.peer) == ("connect", Address(phone="5531"))
    group = {
        "group_id": "G1",
        "type": "group_create",
        "timestamp": "1790000001",
        "added_participants": [{"wa_id": 5531}],
    }
    (seen_group,) = read({"metadata": METADATA, "groups": [group]}, "group_lifecycle_update")
    assert isinstance(seen_group, GroupSeen)
    assert (seen_group.event, seen_group.participants) == ("group_create", (Address(phone="5531"),))
    (history,) = read({"metadata": METADATA, "history": [{}]}, "history")
    assert isinstance(history, HistorySeen)
    contact = {"type": "contact", "contact": {"full_name": "Ana", "phone_number": "5531"}, "action": "add"}
    (seen_contact,) = read({"metadata": METADATA, "state_sync": [contact]}, "smb_app_state_sync")
    assert isinstance(seen_contact, ContactSeen)
    assert (seen_contact.name, seen_contact.peer) == ("Ana", Address(phone="5531"))


def test_an_unknown_field_is_kept_and_ignored() -> None:
    (event,) = read({"anything": 1}, "brand_new_field")
    assert isinstance(event, Ignored)
    assert event.raw == {"anything": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"{", "not_json"), (b"[]", "not_an_object"), (b"{}", "no_entries"), (b'{"entry":{}}', "no_entries")],
)
def test_what_cannot_be_read_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePayload) as refused:
        META.read_webhook(body)
    assert refused.value.reason == reason
