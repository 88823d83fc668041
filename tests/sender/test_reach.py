"""Which numbers a refusal stops beside the one that met it."""

from uuid import UUID

import pytest

from contracts.instances import InstanceConfigured
from providers.failures import CREDENTIALS, HOST_UNLICENSED, NUMBER_DELETED, POLICY_BLOCK, Failure
from providers.protocol import Account
from sender.instance.reach import find_stopped
from sender.work import Instance
from sender_ledger import number
from sender_parts import ACCOUNT


def instance(
    nth: int, *, account_id: UUID = ACCOUNT, url: str = "https://gw", token: str = "t", portfolio: str | None = "p"
) -> Instance:
    config = InstanceConfigured(name="n", provider="meta_cloud", server_url=url, portfolio_id=portfolio)
    account = Account("meta_cloud", credentials={"access_token": token, "webhook_key": str(nth)} if token else {})
    return number(UUID(int=nth), config=config, account=account, account_id=account_id)


FAILED = instance(9)
SAME = instance(1)
OTHER_TOKEN = instance(2, token="u")
OTHER_HOST = instance(3, url="https://other")
OTHER_PORTFOLIO = instance(4, portfolio="q")
OF_ANOTHER = instance(5, account_id=UUID(int=77))
ALL = [FAILED, OTHER_PORTFOLIO, OF_ANOTHER, OTHER_HOST, OTHER_TOKEN, SAME]


@pytest.mark.parametrize(
    ("failure", "stopped"),
    [
        (CREDENTIALS, [FAILED, SAME, OTHER_PORTFOLIO]),
        (HOST_UNLICENSED, [FAILED, SAME, OTHER_TOKEN, OTHER_PORTFOLIO]),
        (POLICY_BLOCK, [FAILED, SAME, OTHER_TOKEN, OTHER_HOST]),
        (NUMBER_DELETED, [FAILED]),
    ],
)
def test_a_refusal_stops_whom_it_awaits_and_nobody_of_another_account(
    failure: Failure, stopped: list[Instance]
) -> None:
    assert find_stopped(FAILED, failure, ALL) == stopped


def test_what_is_not_known_is_not_shared() -> None:
    nameless = [instance(n, portfolio=None, token="") for n in (1, 2)]
    assert find_stopped(nameless[0], POLICY_BLOCK, nameless) == nameless[:1]
    assert find_stopped(nameless[0], CREDENTIALS, nameless) == nameless[:1]
