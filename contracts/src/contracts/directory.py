"""What an account keeps in plain tables and analysts read (topic directory, keyed by the row's id): whole rows."""

from typing import Any, Literal

from contracts.envelope import Event
from contracts.ids import PersonalText


class AccountSaved(Event):
    name: str
    country: str = "BR"
    time_zone: str = "America/Sao_Paulo"


class UserSaved(Event):
    """Without anything that opens a door: no password, no key."""

    email: PersonalText
    name: PersonalText = ""
    role: Literal["operator", "supervisor", "admin"]
    active: bool = True


class ProductSaved(Event):
    """`price_cents` in hundredths of the account's currency; `deleted`: it is offered no more."""

    name: str
    description: str = ""
    price_cents: int | None = None
    details: dict[str, Any] = {}
    deleted: bool = False


DirectoryEvent = AccountSaved | UserSaved | ProductSaved
