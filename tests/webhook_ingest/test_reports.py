"""From what a provider said to our events."""

from datetime import UTC, datetime
from uuid import UUID

from contracts import ids, topics
from contracts.conversations import MessageReceived
from contracts.instances import InstanceBanned, InstanceConnected, InstanceDisconnected, QrCodeUpdated
from contracts.statuses import StatusReceived
from providers import events as seen
from providers.failures import NOT_ON_WHATSAPP, SEND_UNCERTAIN
from providers.protocol import WebhookKeys
from webhook_ingest.admission import KnownInstance
from webhook_ingest.reports import Report, read_reports

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOJA = KnownInstance(
    id=UUID(int=7),
    account_id=UUID(int=1),
    provider="meta_cloud",
    gateway_instance=None,
    phone_number_id="106",
    phone_number=None,
    keys=WebhookKeys(),
)
ANA = seen.Address(phone="5531999990001")


def report(event: seen.WebhookEvent) -> Report:
    reports, unplaced = read_reports([event], lambda _: LOJA, NOON)
    assert unplaced == []
    (only,) = reports
    return only


def nothing(event: seen.WebhookEvent) -> bool:
    return read_reports([event], lambda _: LOJA, NOON) == ([], [])


def test_a_status_is_keyed_by_the_message_it_is_about() -> None:
    result = report(
        seen.StatusSeen(key="k", raw={}, id="wamid.1", status="delivered", client_ref="l:1", at_ms=1_790_000_000_000)
    )
    assert isinstance(result.event, StatusReceived)
    assert result.topic is topics.STATUS_RECEIVED
    assert result.key == str(ids.message_id(LOJA.id, "wamid.1"))
    assert (result.event.status, result.event.client_ref) == ("delivered", "l:1")
    assert result.event.at == datetime.fromtimestamp(1_790_000_000, UTC)


def test_a_failed_status_names_the_failure() -> None:
    result = report(
        seen.StatusSeen(key="k", raw={}, id="w", status="failed", failure=NOT_ON_WHATSAPP, error_code=131026)
    )
    assert isinstance(result.event, StatusReceived)
    assert (result.event.failure, result.event.code) == ("not_on_whatsapp", "131026")


def test_a_failure_that_proves_nothing_settles_nothing() -> None:
    assert nothing(seen.StatusSeen(key="k", raw={}, id="w", status="failed", failure=SEND_UNCERTAIN))


def test_accepted_is_what_the_sends_answer_already_said() -> None:
    assert nothing(seen.StatusSeen(key="k", raw={}, id="w", status="accepted"))


def test_an_event_without_a_time_of_its_own_takes_the_receive_time() -> None:
    result = report(seen.StatusSeen(key="k", raw={}, id="w", status="read"))
    assert isinstance(result.event, StatusReceived)
    assert result.event.at == NOON


def test_an_inbound_message_is_keyed_by_its_chat_whatever_the_ninth_digit() -> None:
    with_nine = seen.MessageSeen(
        key="m", raw={"a": 1}, id="3A", type="text", text="oi", peer=ANA, direction="in", origin="contact"
    )
    without = seen.MessageSeen(key="n", raw={}, id="3B", type="text", peer=seen.Address(phone="553199990001"))
    result = report(with_nine)
    assert isinstance(result.event, MessageReceived)
    assert (result.event.text, result.event.details["raw"]) == ("oi", {"a": 1})
    assert result.key == report(without).key


def test_inline_media_too_large_for_an_event_stays_in_the_raw_webhook() -> None:
    result = report(seen.MessageSeen(key="m", raw={"base64": "x" * 70_000}, id="3A", type="image", peer=ANA))
    assert isinstance(result.event, MessageReceived)
    assert "raw" not in result.event.details


def test_stories_and_newsletters_are_no_conversation() -> None:
    assert nothing(seen.MessageSeen(key="m", raw={}, id="1", type="text", peer=seen.Address(broadcast="status@b")))
    assert nothing(seen.MessageSeen(key="m", raw={}, id="1", type="text", peer=seen.Address(newsletter="x@n")))


def test_a_reaction_points_to_its_message() -> None:
    result = report(seen.ReactionSeen(key="r", raw={}, id="9", target="3A", emoji="👍", peer=ANA))
    assert isinstance(result.event, MessageReceived)
    assert (result.event.type, result.event.reply_to, result.event.details["emoji"]) == ("reaction", "3A", "👍")


def test_connection_states_become_health() -> None:
    assert report(seen.ConnectionSeen(key="c", raw={}, state="open", phone="5511")).event == InstanceConnected(
        phone_number="5511", at=NOON
    )
    assert isinstance(
        report(seen.ConnectionSeen(key="c", raw={}, state="closed", reason="401")).event, InstanceDisconnected
    )
    assert isinstance(report(seen.ConnectionSeen(key="c", raw={}, state="closed", reason="403")).event, InstanceBanned)
    assert isinstance(report(seen.QrSeen(key="q", raw={}, image="data:image/png;base64,x")).event, QrCodeUpdated)


def test_an_event_about_a_number_that_no_instance_has_is_not_lost() -> None:
    status = seen.StatusSeen(key="k", raw={}, id="w", status="read", channel="999")
    reports, unplaced = read_reports([status], lambda _: None, NOON)
    assert reports == []
    assert "999" in unplaced[0].reason


def test_presence_and_calls_are_kept_raw_only() -> None:
    assert nothing(seen.PresenceSeen(key="p", raw={}, peer=ANA, event="composing"))
    assert nothing(seen.CallSeen(key="c", raw={}, event="offer", id="1", peer=ANA))
