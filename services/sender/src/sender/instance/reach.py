"""How far a refusal for an instance's sake reaches: which other numbers it stops as well. No I/O, no clock.

Only within one account: what one account's gateway answers never stops another account's numbers.
"""

from collections.abc import Iterable

from providers.failures import CREDENTIALS, Failure
from sender.work import Instance

# The secrets that are of an app or a server rather than of one number, in the words of providers.protocol.Account.
SHARED_SECRETS = ("access_token", "apikey")


def find_stopped(failed: Instance, failure: Failure, instances: Iterable[Instance]) -> list[Instance]:
    """The failed instance first, then the others, by id, that the same refusal awaits."""
    others = [
        other
        for other in instances
        if other.instance_id != failed.instance_id
        and other.account_id == failed.account_id
        and _shares(failed, other, failure)
    ]
    return [failed, *sorted(others, key=lambda other: other.instance_id)]


def _shares(failed: Instance, other: Instance, failure: Failure) -> bool:
    match failure.stops:
        case "portfolio":
            portfolio = failed.config.portfolio_id
            return portfolio is not None and other.config.portfolio_id == portfolio
        case "host":
            return host_of(other) == host_of(failed)
        case _:
            return failure is CREDENTIALS and host_of(other) == host_of(failed) and _share_secret(failed, other)


def host_of(instance: Instance) -> tuple[str, str]:
    return instance.config.provider.partition("_")[0], instance.config.server_url.rstrip("/").lower()


def _share_secret(failed: Instance, other: Instance) -> bool:
    """All of those secrets are the same, and there is one."""
    ours, theirs = failed.account.credentials, other.account.credentials
    secrets = [name for name in SHARED_SECRETS if ours.get(name)]
    return bool(secrets) and all(ours[name] == theirs.get(name) for name in secrets)
