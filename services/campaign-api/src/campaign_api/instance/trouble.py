"""Why a number does not send, in words that tell a person what to do. Pure."""

from typing import Final

from contracts.instances import (
    BreakerClosed,
    BreakerOpened,
    InstanceBanned,
    InstanceConnected,
    InstanceConnecting,
    InstanceDisconnected,
    InstanceHealthEvent,
    QrCodeUpdated,
)
from providers.failures import FAILURES

_WISHES: Final = ("disconnected", "deleted", "none")  # reasons of what a person asked for
_PAIR_AGAIN: Final = "Connect it and scan the new QR code."
# What gateways, webhooks and the sender say beside the failures that providers know. Numbers are WhatsApp Web's.
_TEXTS: Final = {
    "provider_busy": "The gateway did not answer, or its address is not allowed here. Check the server address and that"
    " the gateway runs, then connect again.",
    "credentials_unreadable": "The stored credentials cannot be read with the installation's keys. Enter them anew.",
    "qr_code_limit": "Nobody scanned the QR code in time. Connect again and scan it within a minute.",
    "logout.instance": f"The phone ended the session. {_PAIR_AGAIN}",
    "remove.instance": "The gateway removed the instance. Connect it again: it is made anew.",
    "401": f"The phone ended the session. {_PAIR_AGAIN}",
    "403": "WhatsApp banned or blocked the number. Look into WhatsApp on the phone; do not pair it again before.",
    "408": "The phone or WhatsApp did not answer in time. Check that the phone is on, then connect again.",
    "411": f"The session does not fit the phone's settings for linked devices. {_PAIR_AGAIN}",
    "428": "The connection was closed. Connect again.",
    "440": "The session was opened somewhere else. End the other one, then connect again.",
    "500": f"The session is damaged. {_PAIR_AGAIN}",
    "503": "WhatsApp is not available. Connect again in some minutes.",
    "515": "WhatsApp asked for a restart of the session. Connect again.",
    "error_share": "Too many of its messages end in errors that WhatsApp does not explain. It rests; look at what it"
    " sends and to whom.",
    "banned": "WhatsApp banned the number. Appeal on the phone; move its contacts to another number.",
    "account_restricted": "WhatsApp restricts what the account may send. Read the account's page.",
    "account_disabled": "WhatsApp disabled the account. Appeal on the account's page; other accounts' numbers go on.",
    "close": f"The session ended. {_PAIR_AGAIN}",
    "closed": f"The session ended. {_PAIR_AGAIN}",
}


def trouble_of(event: InstanceHealthEvent) -> dict[str, str | None]:
    """The column `trouble` as the event leaves it: a reason, None where there is none any more; {} = as it was."""
    match event:
        case InstanceDisconnected(reason=reason):
            return {"trouble": None if reason in _WISHES else reason}
        case InstanceBanned(reason=reason):
            return {"trouble": reason if reason in _TEXTS else "banned"}
        case BreakerOpened(reason="connecting"):
            return {}
        case BreakerOpened(reason=reason):
            return {"trouble": reason}
        case InstanceConnected() | InstanceConnecting() | QrCodeUpdated() | BreakerClosed():
            return {"trouble": None}
        case _:
            return {}


def explain(reason: str) -> str:
    """What happened and what to do."""
    if reason in _TEXTS:
        return _TEXTS[reason]
    if reason in FAILURES:
        return FAILURES[reason].text
    return f"The gateway says: {reason[:300]}. Check the number on its phone, then connect again."
