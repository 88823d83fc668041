"""Meta's Cloud API: what is sent, and what each answer proves."""

import orjson
import pytest

from providers.address import Address
from providers.meta_cloud.codes import CODES, classify
from providers.meta_cloud.send import Usage, read_usage
from providers.protocol import (
    Accepted,
    Account,
    Ambiguous,
    Content,
    NotSent,
    OutboundMessage,
    Rejected,
    Throttled,
    UnsendableMessage,
    read_transport_failure,
)
from providers.registry import PROVIDERS

META = PROVIDERS["meta_cloud"]
ACCOUNT = Account(
    "meta_cloud", "https://graph.example.test", phone_number_id="1065", credentials={"access_token": "TOKEN"}
)
ANA = Address(phone="5531999990001")


def message(content: Content, recipient: Address = ANA, reply_to: str | None = None) -> OutboundMessage:
    return OutboundMessage(recipient, content, "dispatch:1", reply_to)


def body_of(content: Content, **more: object) -> dict[str, object]:
    request = META.build_request(message(content, **more), ACCOUNT)  # type: ignore[arg-type]
    body = orjson.loads(request.body)
    assert isinstance(body, dict)
    return body


def error(code: int, **more: object) -> bytes:
    return orjson.dumps({"error": {"message": "m", "code": code, "error_data": {"details": "why"}, **more}})


def test_a_text_carries_our_label_and_the_token() -> None:
    request = META.build_request(message(Content("text", "Olá")), ACCOUNT)
    assert request.method == "POST"
    assert request.url == "https://graph.example.test/v23.0/1065/messages"
    assert request.headers["Authorization"] == "Bearer TOKEN"
    assert orjson.loads(request.body) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "5531999990001",
        "type": "text",
        "text": {"body": "Olá", "preview_url": False},
        "biz_opaque_callback_data": "dispatch:1",
    }


def test_neither_token_nor_address_is_shown_when_a_request_is_printed() -> None:
    assert "TOKEN" not in repr(META.build_request(message(Content("text", "Olá")), ACCOUNT))
    assert "TOKEN" not in repr(ACCOUNT)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            Content("image", "legenda", "https://cdn.example.test/a.jpg"),
            {"link": "https://cdn.example.test/a.jpg", "caption": "legenda"},
        ),
        (
            Content("document", "", "https://cdn.example.test/a.pdf", filename="nota.pdf"),
            {"link": "https://cdn.example.test/a.pdf", "filename": "nota.pdf"},
        ),
        (
            Content("audio", "ignored", "https://cdn.example.test/a.ogg"),
            {"link": "https://cdn.example.test/a.ogg"},
        ),
        (
            Content("video", "v", "https://cdn.example.test/a.mp4"),
            {"link": "https://cdn.example.test/a.mp4", "caption": "v"},
        ),
        (
            Content("template", template_name="promo", template_language="pt_BR"),
            {"name": "promo", "language": {"code": "pt_BR"}},
        ),
    ],
)
def test_each_kind_of_content(content: Content, expected: dict[str, object]) -> None:
    body = body_of(content)
    assert body["type"] == content.kind
    assert body[content.kind] == expected


def test_template_components_are_handed_on() -> None:
    components = ({"type": "body", "parameters": [{"type": "text", "text": "Ana"}]},)
    template = body_of(Content("template", template_name="promo", template_components=components))["template"]
    assert isinstance(template, dict)
    assert template["components"] == list(components)


def test_a_person_without_a_phone_is_addressed_by_the_business_scoped_id() -> None:
    body = body_of(Content("text", "oi"), recipient=Address(bsuid="BR.1349"))
    assert body["recipient"] == "BR.1349"
    assert "to" not in body


def test_a_reply_names_the_message_it_answers() -> None:
    assert body_of(Content("text", "oi"), reply_to="wamid.A")["context"] == {"message_id": "wamid.A"}


def test_the_proof_of_the_app_secret_is_added_where_it_is_known() -> None:
    account = Account("meta_cloud", phone_number_id="1", credentials={"access_token": "t", "app_secret": "s"})
    url = META.build_request(message(Content("text", "x")), account).url
    assert url.startswith("https://graph.facebook.com/v23.0/1/messages?appsecret_proof=")


@pytest.mark.parametrize(
    "unsendable",
    [
        message(Content("image", "no address")),
        message(Content("template")),
        message(Content("text", "x"), Address(lid="1@lid")),
        message(Content("text", "x" * 4097)),
        message(Content("image", "x" * 1025, "https://cdn.example.test/a.jpg")),
    ],
)
def test_what_meta_cannot_take_is_refused_before_it_leaves(unsendable: OutboundMessage) -> None:
    with pytest.raises(UnsendableMessage) as refused:
        META.build_request(unsendable, ACCOUNT)
    assert not refused.value.rejected.retryable


def test_accepted_with_the_number_in_metas_own_form() -> None:
    answer = orjson.dumps(
        {
            "contacts": [{"input": "5531999990001", "wa_id": "553199990001", "user_id": "BR.9"}],
            "messages": [{"id": "wamid.1", "message_status": "accepted"}],
        }
    )
    assert META.read_response(200, {}, answer) == Accepted("wamid.1", Address(phone="553199990001", bsuid="BR.9"))


@pytest.mark.parametrize("word", ["held_for_quality_assessment", "paused"])
def test_held_for_pacing_is_accepted_and_said_to_be_held(word: str) -> None:
    answer = orjson.dumps({"messages": [{"id": "wamid.1", "message_status": word}]})
    assert META.read_response(200, {}, answer) == Accepted("wamid.1", None, held=True)


# Every row of the error table: code, HTTP status, failure, and what it asks for.
ROWS = [
    (0, 401, "credentials", "disable_instance"),
    (190, 401, "credentials", "disable_instance"),
    (3, 500, "permission", "disable_instance"),
    (10, 403, "permission", "disable_instance"),
    (200, 403, "permission", "disable_instance"),
    (299, 403, "permission", "disable_instance"),
    (368, 403, "policy_block", "disable_instance"),
    (131031, 403, "policy_block", "disable_instance"),
    (131042, 400, "payment", "disable_instance"),
    (131045, 500, "not_registered", "disable_instance"),
    (133010, 400, "not_registered", "disable_instance"),
    (33, 400, "number_deleted", "disable_instance"),
    (131037, 400, "display_name", "disable_instance"),
    (4, 429, "app_rate", "retry"),
    (80007, 429, "account_rate", "retry"),
    (130429, 429, "number_rate", "retry"),
    (131056, 400, "pair_rate", "retry"),
    (131048, 400, "spam_limit", "pause_instance"),
    (131064, 400, "template_limit", "stop_template"),
    (133016, 400, "registration_limit", "retry"),
    (131049, 400, "marketing_cap", "retry"),
    (130472, 400, "in_experiment", "fail"),
    (131050, 400, "opted_out", "fail_recipient"),
    (131026, 400, "not_on_whatsapp", "fail_recipient"),
    (131021, 400, "recipient_refused", "fail"),
    (131030, 400, "recipient_refused", "fail"),
    (131047, 400, "window_closed", "fail"),
    (131051, 400, "unsupported", "fail"),
    (131052, 400, "media_refused", "fail_media"),
    (131053, 400, "media_refused", "fail_media"),
    (100, 400, "bad_request", "fail"),
    (131008, 400, "bad_request", "fail"),
    (131009, 400, "bad_request", "fail"),
    (130497, 400, "recipient_refused", "fail"),
    (131062, 400, "recipient_refused", "fail"),
    (131063, 400, "unsupported", "fail"),
    (132000, 400, "template_parameters", "fail"),
    (132005, 400, "template_parameters", "fail"),
    (132012, 400, "template_parameters", "fail"),
    (132018, 400, "template_parameters", "fail"),
    (132001, 404, "template_missing", "stop_template"),
    (132007, 400, "template_disabled", "stop_template"),
    (132015, 400, "template_paused", "stop_template"),
    (132016, 400, "template_disabled", "stop_template"),
    (132068, 400, "template_disabled", "stop_template"),
    (132069, 400, "template_paused", "stop_template"),
    (137000, 400, "recipient_refused", "fail"),
    (1, 500, "provider_busy", "retry"),
    (2, 503, "provider_busy", "retry"),
    (131016, 503, "provider_busy", "retry"),
    (131057, 500, "maintenance", "retry"),
    (135000, 400, "generic_error", "retry"),
]


@pytest.mark.parametrize(("code", "status", "name", "action"), ROWS)
def test_every_row_of_the_error_table(code: int, status: int, name: str, action: str) -> None:
    outcome = META.read_response(status, {}, error(code))
    assert isinstance(outcome, Rejected | Throttled)
    assert (outcome.failure.name, outcome.failure.action) == (name, action)
    assert (outcome.code, outcome.text) == (str(code), "why")
    if isinstance(outcome, Rejected):
        assert outcome.retryable is outcome.failure.retryable


def test_the_table_above_names_every_code_that_is_known() -> None:
    assert set(CODES) - {row[0] for row in ROWS} == {131000}


@pytest.mark.parametrize("status", [400, 500, 503])
def test_131000_proves_nothing(status: int) -> None:
    assert isinstance(META.read_response(status, {}, error(131000)), Ambiguous)


@pytest.mark.parametrize(
    ("code", "scope", "wait_s"),
    [(130429, "number", None), (131056, "pair", 6.0), (80007, "account", None), (4, "app", None)],
)
def test_throttled_without_retry_after(code: int, scope: str, wait_s: float | None) -> None:
    outcome = META.read_response(429, {}, error(code))
    assert isinstance(outcome, Throttled)
    assert (outcome.scope, outcome.retry_after_s) == (scope, wait_s)


def test_throttled_with_retry_after_however_the_header_is_spelt() -> None:
    for name in ("Retry-After", "retry-after", "RETRY-AFTER"):
        outcome = META.read_response(429, {name: "30"}, error(130429))
        assert isinstance(outcome, Throttled)
        assert outcome.retry_after_s == 30.0


def test_the_account_limit_says_in_its_own_header_how_long_it_lasts() -> None:
    usage = '{"1022":[{"type":"whatsapp","call_count":100,"total_time":3,"estimated_time_to_regain_access":5}]}'
    outcome = META.read_response(429, {"X-Business-Use-Case-Usage": usage}, error(80007))
    assert isinstance(outcome, Throttled)
    assert outcome.retry_after_s == 300.0
    assert read_usage({"X-Business-Use-Case-Usage": usage}) == Usage(100, 300.0)


@pytest.mark.parametrize("value", ["", "x", "[]", "{}", '{"1":[]}', '{"1":[{"call_count":"many"}]}'])
def test_a_strange_usage_header_is_no_reason_to_fall(value: str) -> None:
    usage = read_usage({"x-business-use-case-usage": value})
    assert usage in (None, Usage(0, 0.0))


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"{", b"[]", b"{}", b'{"error":"text"}'])
@pytest.mark.parametrize("status", [200, 500, 502, 503, 504])
def test_an_answer_without_a_proof_is_ambiguous(status: int, body: bytes) -> None:
    assert isinstance(META.read_response(status, {}, body), Ambiguous)


def test_an_unknown_code_is_final_below_500_and_ambiguous_above() -> None:
    final = META.read_response(400, {}, error(999999))
    assert isinstance(final, Rejected)
    assert (final.failure.name, final.retryable) == ("unknown_code", False)
    assert isinstance(META.read_response(500, {}, error(999999)), Ambiguous)


def test_an_unknown_code_that_meta_calls_transient_is_tried_again() -> None:
    outcome = META.read_response(500, {}, error(999999, is_transient=True))
    assert isinstance(outcome, Rejected)
    assert outcome.retryable


@pytest.mark.parametrize(
    ("status", "kind"), [(429, Throttled), (401, Rejected), (403, Rejected), (404, Rejected), (413, Rejected)]
)
def test_a_proxys_refusal_is_no_send(status: int, kind: type) -> None:
    assert isinstance(META.read_response(status, {}, b"<html></html>"), kind)


def test_only_a_failure_to_connect_proves_that_nothing_left() -> None:
    assert read_transport_failure("connect") == NotSent("connect_failed")
    assert isinstance(read_transport_failure("write"), Ambiguous)
    assert isinstance(read_transport_failure("read"), Ambiguous)


def test_a_marketing_cap_waits_a_day() -> None:
    assert (classify(131049).retry_after_s or 0) >= 86_400
