"""The closed list of ways a send fails, and what each asks for.

`error_class` groups them for reports; `action` is what the sender does; `stops` how far the fault reaches (nothing
beyond this message, the recipient, the template, the instance, the gateway's host, Meta's portfolio);
`counts_against_throttle`: the limiter slows down; `retry_after_s`: the earliest that another attempt makes sense,
None = by the usual backoff; `tries`: of the message in all, None = as the campaign says. Texts are for the operator
and name the remedy.
"""

from dataclasses import dataclass
from typing import Literal

ErrorClass = Literal[
    "media", "recipient_dead", "recipient_optout", "number_throttle", "wait_24h", "window_closed", "retry_later",
    "account", "template", "ambiguous", "permanent", "unknown", "other",
]  # fmt: skip
Action = Literal[
    "fail", "fail_recipient", "fail_media", "stop_template", "retry", "retry_then_disable_instance",
    "pause_instance", "disable_instance", "disable_host", "reconcile",
]  # fmt: skip
Reach = Literal["none", "recipient", "template", "instance", "host", "portfolio"]

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Failure:
    name: str
    error_class: ErrorClass
    action: Action
    text: str
    stops: Reach = "none"
    retryable: bool = False
    counts_against_throttle: bool = False
    retry_after_s: float | None = None
    tries: int | None = None


def _recipient(name: str, error_class: ErrorClass, text: str) -> Failure:
    return Failure(name, error_class, "fail_recipient", text, stops="recipient")


def _template(name: str, text: str) -> Failure:
    return Failure(name, "template", "stop_template", text, stops="template")


def _instance(name: str, text: str, stops: Reach = "instance") -> Failure:
    return Failure(name, "account", "disable_instance", text, stops=stops)


def _later(name: str, text: str, *, throttles: bool = False, after_s: float | None = None) -> Failure:
    return Failure(
        name, "retry_later", "retry", text, retryable=True, counts_against_throttle=throttles, retry_after_s=after_s
    )


# The recipient
NOT_ON_WHATSAPP = _recipient(
    "not_on_whatsapp", "recipient_dead", "The number cannot be reached on WhatsApp. Check it, or leave it out."
)
OPTED_OUT = _recipient(
    "opted_out", "recipient_optout", "The person stopped marketing messages from us. Send them no more."
)
MARKETING_CAP = Failure(
    "marketing_cap", "wait_24h", "retry",
    "WhatsApp limits marketing to this person now. Wait a day or more, or drop the message.",
    stops="recipient", retryable=True, retry_after_s=DAY_S,
)  # fmt: skip
IN_EXPERIMENT = Failure(
    "in_experiment", "wait_24h", "fail",
    "WhatsApp keeps this person out of marketing for an experiment. Drop the message.", stops="recipient",
)  # fmt: skip
WINDOW_CLOSED = Failure(
    "window_closed", "window_closed", "fail",
    "More than 24 h since the person's last message: only a template may be sent.", stops="recipient",
)  # fmt: skip
RECIPIENT_REFUSED = Failure(
    "recipient_refused", "permanent", "fail",
    "The provider does not allow this message to this recipient. Read the detail.", stops="recipient",
)  # fmt: skip
GROUP_REFUSED = Failure(
    "group_refused", "permanent", "fail",
    "The group or channel does not take this message: not a member, no permission, or it is gone.",
    stops="recipient",
)  # fmt: skip

# The message
BAD_REQUEST = Failure(
    "bad_request", "permanent", "fail", "The provider could not understand the request. Check the message's fields."
)
UNSUPPORTED = Failure("unsupported", "permanent", "fail", "This provider cannot send this kind of message.")
MEDIA_REFUSED = Failure(
    "media_refused", "media", "fail_media", "The media could not be fetched or converted. Check its address and type."
)
MEDIA_HOST_DOWN = Failure(
    "media_host_down", "media", "retry",
    "The server of the media does not answer. Check its address; it is tried again.", retryable=True,
)  # fmt: skip
TEMPLATE_PARAMETERS = Failure(
    "template_parameters", "template", "fail", "The parameters do not fit the template. Compare their number and form."
)
TEMPLATE_MISSING = _template(
    "template_missing", "No approved template of this name and language. Check both with the provider."
)
TEMPLATE_PAUSED = _template("template_paused", "The provider paused the template for low quality. Wait or change it.")
TEMPLATE_DISABLED = _template("template_disabled", "The template is disabled or breaks a policy. Use another one.")
TEMPLATE_LIMIT = _template("template_limit", "Too many template violations. Pause templates and appeal.")

# Rates and quality
NUMBER_RATE = Failure(
    "number_rate", "number_throttle", "retry", "The number sends faster than allowed. It slows down by itself.",
    retryable=True, counts_against_throttle=True,
)  # fmt: skip
PAIR_RATE = _later("pair_rate", "Too many messages to this one person in a short time.", throttles=True, after_s=6.0)
ACCOUNT_RATE = _later("account_rate", "The business account reached its rate limit.", throttles=True)
APP_RATE = _later("app_rate", "The app reached its rate limit.", throttles=True)
SPAM_LIMIT = Failure(
    "spam_limit", "number_throttle", "pause_instance",
    "WhatsApp limits the number for its quality. Rest it for hours and look at what it sends.",
    stops="instance", retryable=True, counts_against_throttle=True,
)  # fmt: skip
SHADOW_BAN = Failure(
    "shadow_ban", "number_throttle", "pause_instance",
    "WhatsApp silently refuses what this number sends. Rest it; do not pair it again.",
    stops="instance", retryable=True, counts_against_throttle=True,
)  # fmt: skip
PROVIDER_BUSY = _later("provider_busy", "The provider is out of order for a moment. It is tried again.")
GENERIC_ERROR = Failure(
    "generic_error", "retry_later", "retry",
    "WhatsApp refused the message without a cause. It is tried once more; then look at the message's fields.",
    retryable=True, tries=2,
)  # fmt: skip
MAINTENANCE = _later("maintenance", "The provider is working on the number.", after_s=60.0)
REGISTRATION_LIMIT = _later("registration_limit", "Registered too often. Wait three days.", after_s=3 * DAY_S)

# The account
CREDENTIALS = _instance("credentials", "The provider refuses the credentials. Enter new ones.")
PERMISSION = _instance("permission", "The access token lacks a permission. Grant it and save the token again.")
POLICY_BLOCK = _instance("policy_block", "The account is blocked for a policy. Read the account's page.", "portfolio")
PAYMENT = _instance("payment", "The provider wants a payment method. The queue is kept.", "portfolio")
NOT_REGISTERED = _instance("not_registered", "The number is not registered. Register it at the provider.")
NUMBER_DELETED = _instance("number_deleted", "The number no longer exists at the provider.")
DISPLAY_NAME = _instance("display_name", "The display name is not approved: templates are refused.")
NO_SUCH_INSTANCE = _instance("no_such_instance", "The gateway does not know this instance. Connect it again.")
SUBSCRIPTION_ENDED = _instance("subscription_ended", "The gateway's subscription ended. Pay it; inbound goes on.")
ADDRESS_REFUSED = _instance("address_refused", "The gateway does not allow our address. Add it to its list.")
CLIENT_TOKEN_MISSING = Failure(
    "client_token_missing", "account", "retry_then_disable_instance",
    "The gateway says that no client token is configured. Enter it in the instance's credentials.",
    stops="instance", retryable=True,
)  # fmt: skip
HOST_UNLICENSED = Failure(
    "host_unlicensed", "account", "disable_host",
    "The gateway's server is not licensed: all its instances are down. Activate it.", stops="host",
)  # fmt: skip

# Not known
SEND_UNCERTAIN = Failure(
    "send_uncertain", "ambiguous", "reconcile", "The gateway does not know whether it was sent. It is looked up."
)
CAUSE_LOST = Failure("cause_lost", "unknown", "fail", "WhatsApp refused it; the gateway does not say why.")
UNKNOWN_CODE = Failure("unknown_code", "other", "fail", "An error that is not in our tables. Read the detail.")
OPERATION_REFUSED = Failure("operation_refused", "other", "fail", "The gateway answered that it did not do it.")

FAILURES: dict[str, Failure] = {
    failure.name: failure for failure in list(globals().values()) if isinstance(failure, Failure)
}
