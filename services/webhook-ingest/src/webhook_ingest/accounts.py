"""What a provider says of a whole account, told to each of our numbers that belong to it. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from contracts.instances import AccountStandingChanged, InstanceLimitsChanged, TemplateStatusChanged
from providers import events as seen
from webhook_ingest.admission import KnownInstance

AccountEvent = seen.AccountSeen | seen.LimitSeen | seen.TemplateSeen
Said = AccountStandingChanged | InstanceLimitsChanged | TemplateStatusChanged


def read_account(
    event: AccountEvent, numbers: Sequence[KnownInstance], at: datetime
) -> list[tuple[KnownInstance, Said]]:
    """`numbers`: those of the account. A template is told of once for each of our accounts, by one of its numbers."""
    match event:
        case seen.LimitSeen():
            return [(number, _limits(event, number, at)) for number in numbers]
        case seen.AccountSeen(standing=str(standing)):
            until = None if event.until_ms is None else datetime.fromtimestamp(event.until_ms / 1000, UTC)
            changed = AccountStandingChanged(standing=standing, reason=event.reason, until=until, at=at)
            return [(number, changed) for number in numbers]
        case seen.TemplateSeen(standing=str(standing), name=str(name)):
            reason = event.reason or ""
            told = TemplateStatusChanged(name=name, language=event.language, status=standing, reason=reason, at=at)
            first: dict[UUID, KnownInstance] = {}
            for number in numbers:
                first.setdefault(number.account_id, number)
            return [(number, told) for number in first.values()]
        case _:
            return []


def concerns_sending(event: AccountEvent) -> bool:
    """Whether it must not be lost that none of our numbers is known to belong to the account."""
    return isinstance(event, seen.LimitSeen) or event.standing is not None


def _limits(event: seen.LimitSeen, number: KnownInstance, at: datetime) -> InstanceLimitsChanged:
    """The limit of people is the whole account's; rate and quality are of the number that the event names."""
    own = event.phone is not None and number.has_number(event.phone)
    return InstanceLimitsChanged(
        tier=str(event.tier) if event.tier is not None else None,
        unique_per_24h=event.unique_per_24h,
        unlimited=event.unlimited,
        messages_per_second=event.messages_per_second if own else None,
        quality=event.quality if own else None,
        at=at,
    )
