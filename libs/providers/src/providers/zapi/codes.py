"""What Z-API's words mean: statuses of messages, texts of errors, of answers and of delivery callbacks.

https://developer.z-api.io (read 2026-11). It has no error numbers: the text is all there is. No limits are
documented and no 429: its own queue paces, one message in 1 to 3 s.
"""

import re
from collections.abc import Mapping
from typing import Final

from providers import failures as f
from providers.events import Delivery
from providers.failures import Failure

# The queue holds 1,000 messages while disconnected; one page of it shows at most 30.
LOOK_UP_ROWS: Final = 30

STATUSES: Final[Mapping[str, Delivery]] = {
    "SENT": "sent",
    "RECEIVED": "delivered",
    "MESSAGE_RECEIVED": "delivered",
    "READ": "read",
    "PLAYED": "played",
}
# Our own reading of what others wrote, not theirs of ours.
OWN_READS: Final = frozenset({"READ_BY_ME", "READ-SELF", "READ_SELF", "PLAYED_BY_ME", "PLAYED-SELF"})

# In order: the first that is found in the text decides.
_ANSWERS: Final[tuple[tuple[re.Pattern[str], Failure], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), failure)
    for pattern, failure in (
        (r"must subscribe to this instance|subscription|trial (has )?(expired|ended)", f.SUBSCRIPTION_ENDED),
        (r"client-token is not configured", f.CLIENT_TOKEN_MISSING),
        (r"client-token .*not allowed|^null not allowed", f.CREDENTIALS),
        (r"^[0-9a-f.:]+ not allowed", f.ADDRESS_REFUSED),
        (r"not allowed$", f.CREDENTIALS),
        (r"instance not found", f.NO_SUCH_INSTANCE),
        (r"unauthorized|invalid token", f.CREDENTIALS),
    )
)
_DELIVERIES: Final[tuple[tuple[re.Pattern[str], Failure], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), failure)
    for pattern, failure in (
        (r"shadow.?ban", f.SHADOW_BAN),
        (r"whatsapp rejected|whatsapp did not allow|did not have permission to send this message", f.SHADOW_BAN),
        (r"number does not exist|invalid phone|not (a|on) whatsapp", f.NOT_ON_WHATSAPP),
        (r"button.*terms", f.UNSUPPORTED),
        (r"group|channel|newsletter|communit|participant", f.GROUP_REFUSED),
        (
            r"got a \d{3} error|media|sticker|valid url|\bhtml\b|convert|conversion|download|mime.?type"
            r"|unsupported .*format",
            f.MEDIA_REFUSED,
        ),
        (r"to queue due to request error|send message to queue", f.PROVIDER_BUSY),
        (r"timeout on send|time.?out|error on send", f.SEND_UNCERTAIN),
    )
)


def classify_answer(said: str) -> Failure | None:
    """The failure behind the text of an HTTP answer; None where it is one of a message's own (see deliveries)."""
    return next((failure for pattern, failure in _ANSWERS if pattern.search(said)), None)


def classify_delivery(said: str, code: str | None = None) -> Failure:
    """The failure behind a DeliveryCallback's error."""
    if code == "SHADOW_BAN":
        return f.SHADOW_BAN
    return next((failure for pattern, failure in _DELIVERIES if pattern.search(said)), f.UNKNOWN_CODE)
