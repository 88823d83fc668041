"""Meta's error codes and limits (its pages on error codes and messaging limits, read 2026-11).

https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from providers import failures as f
from providers.events import Delivery
from providers.failures import Failure
from providers.protocol import Ambiguous, Rejected, SendOutcome, Throttled
from providers.wire import flag, obj, text, whole

# Limits of the send body, in characters unless said otherwise.
TEXT_LIMIT: Final = 4096
CAPTION_LIMIT: Final = 1024
LABEL_LIMIT: Final = 512
# Messages a second and number, in and out together: standard, upgraded, coexistence.
RATE_STANDARD, RATE_HIGH = 80, 1000
_TIER: Final = re.compile(r"TIER_(\d+)(K?)")

STATUSES: Final[Mapping[str, Delivery]] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "played": "played",
    "failed": "failed",
}

CODES: Final[Mapping[int, Failure]] = {
    0: f.CREDENTIALS,
    190: f.CREDENTIALS,
    3: f.PERMISSION,
    10: f.PERMISSION,
    368: f.POLICY_BLOCK,
    131031: f.POLICY_BLOCK,
    131042: f.PAYMENT,
    131045: f.NOT_REGISTERED,
    133010: f.NOT_REGISTERED,
    33: f.NUMBER_DELETED,
    131037: f.DISPLAY_NAME,
    4: f.APP_RATE,
    80007: f.ACCOUNT_RATE,
    130429: f.NUMBER_RATE,
    131056: f.PAIR_RATE,
    131048: f.SPAM_LIMIT,
    131064: f.TEMPLATE_LIMIT,
    133016: f.REGISTRATION_LIMIT,
    131049: f.MARKETING_CAP,
    130472: f.IN_EXPERIMENT,
    131050: f.OPTED_OUT,
    131026: f.NOT_ON_WHATSAPP,
    131021: f.RECIPIENT_REFUSED,
    131030: f.RECIPIENT_REFUSED,
    131047: f.WINDOW_CLOSED,
    131051: f.UNSUPPORTED,
    131052: f.MEDIA_REFUSED,
    131053: f.MEDIA_REFUSED,
    100: f.BAD_REQUEST,
    131008: f.BAD_REQUEST,
    131009: f.BAD_REQUEST,
    130497: f.RECIPIENT_REFUSED,
    131062: f.RECIPIENT_REFUSED,
    131063: f.UNSUPPORTED,
    132000: f.TEMPLATE_PARAMETERS,
    132005: f.TEMPLATE_PARAMETERS,
    132012: f.TEMPLATE_PARAMETERS,
    132018: f.TEMPLATE_PARAMETERS,
    132001: f.TEMPLATE_MISSING,
    132007: f.TEMPLATE_DISABLED,
    132015: f.TEMPLATE_PAUSED,
    132016: f.TEMPLATE_DISABLED,
    132068: f.TEMPLATE_DISABLED,
    132069: f.TEMPLATE_PAUSED,
    137000: f.RECIPIENT_REFUSED,
    1: f.PROVIDER_BUSY,
    2: f.PROVIDER_BUSY,
    131000: f.SEND_UNCERTAIN,
    131016: f.PROVIDER_BUSY,
    131057: f.MAINTENANCE,
    135000: f.GENERIC_ERROR,
}

_SCOPES: Final[Mapping[str, Literal["number", "pair", "account", "app"]]] = {
    f.NUMBER_RATE.name: "number",
    f.PAIR_RATE.name: "pair",
    f.ACCOUNT_RATE.name: "account",
    f.APP_RATE.name: "app",
}


def people_per_24h(tier: str | int | None) -> int | None:
    """Unique people in 24 h outside a service window; None = no limit, or not said."""
    if isinstance(tier, int):
        return tier if tier > 0 else None
    known = _TIER.fullmatch(tier or "")
    return int(known.group(1)) * (1000 if known.group(2) else 1) if known else None


def is_unlimited(tier: str | int | None) -> bool:
    return tier in (-1, "TIER_UNLIMITED", "UNLIMITED")


def classify(code: int) -> Failure:
    """The failure behind a code, the same for answers and for statuses."""
    known = CODES.get(code)
    if known is not None:
        return known
    return f.PERMISSION if 200 <= code <= 299 else f.UNKNOWN_CODE


def read_error(error: Mapping[str, Any], http_status: int, retry_after_s: float | None) -> SendOutcome:
    """What an error object proves. `http_status` decides only where the code is not in our table."""
    code = whole(error.get("code"))
    detail = text(obj(error.get("error_data")).get("details")) or text(error.get("message")) or ""
    if code is None:
        return unreadable_answer(http_status, retry_after_s)
    failure = classify(code)
    if failure is f.SEND_UNCERTAIN:
        return Ambiguous(f"meta_{code}")
    scope = _SCOPES.get(failure.name)
    if scope is not None:
        wait_s = retry_after_s if retry_after_s is not None else failure.retry_after_s
        return Throttled(scope, wait_s, str(code), failure, detail)
    if failure is f.UNKNOWN_CODE:
        if http_status == 429:
            return Throttled("number", retry_after_s, str(code), f.NUMBER_RATE, detail)
        if flag(error.get("is_transient")):
            return Rejected(f.PROVIDER_BUSY, str(code), detail, retryable=True)
        if http_status >= 500:
            return Ambiguous(f"meta_{code}")
    return Rejected(failure, str(code), detail, retryable=failure.retryable)


def unreadable_answer(http_status: int, retry_after_s: float | None) -> SendOutcome:
    """An answer without a provider's error in it: of a proxy, or cut short."""
    if http_status == 429:
        return Throttled("app", retry_after_s, "429", f.APP_RATE)
    if http_status in (401, 403):
        return Rejected(f.CREDENTIALS, str(http_status))
    if http_status in (404, 405, 411, 413, 414, 415):
        return Rejected(f.BAD_REQUEST, str(http_status))
    return Ambiguous(f"http_{http_status}_unreadable")
