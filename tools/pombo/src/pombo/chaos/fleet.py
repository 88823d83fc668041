"""Two accounts and their numbers of every provider kind, on one simulator."""

import secrets

from pombo.chaos.campaigns import Account
from pombo.client.simulator import Simulator
from pombo.demo.account import make_account, signed_in
from pombo.demo.fleet import NumberPlan, PoolNumber, add_number
from pombo.demo.isolation import Canary, plant_canary
from pombo.stack import Stack
from pombo.stack.services import Addresses

WEB_PER_SECOND = 20.0
# Of each slow kind: they have one request open at a time, and people are shared evenly among all numbers.
SLOW_NUMBERS = 6
# Z-API's queue goes as fast as the other web numbers.
ZAPI_QUEUE = {"queue_gap_s": [0.1, 0.3]}


def numbers_of(account: int) -> list[NumberPlan]:
    """Two numbers at Meta that share a portfolio, one at Meta through Evolution, and as many of the slow kinds as keep
    them from being all that a run waits for."""
    own, phone, graph = f"chaos-{account}", f"55119888{account}", f"10000000{account}0000"
    cloud = [
        NumberPlan(
            "meta_cloud",
            f"{graph}0{index}",
            f"{phone}000{index}",
            title=f"{own} meta {index}",
            portfolio=f"{own}-portfolio",
        )
        for index in (1, 2)
    ]
    evolution = NumberPlan(
        "evolution_cloud", f"{own}-cloud", f"{phone}0003", title=f"{own} cloud", graph_number=f"{graph}03"
    )
    slow: list[NumberPlan] = []
    for index in range(SLOW_NUMBERS):
        slow += [
            NumberPlan(
                "evolution_web",
                f"{own}-web-{index}",
                f"{phone}010{index}",
                per_second=WEB_PER_SECOND,
                unique_24h=None,
                title=f"{own} web {index}",
            ),
            NumberPlan(
                "zapi",
                f"3C0FFEE00000000000000000000{account}AAA{index}",
                f"{phone}020{index}",
                per_second=WEB_PER_SECOND,
                unique_24h=None,
                title=f"{own} z-api {index}",
                behaviour=ZAPI_QUEUE,
            ),
        ]
    return [*cloud, evolution, *slow]


def make_accounts(stack: Stack, addresses: Addresses, simulator: Simulator) -> tuple[list[Account], Canary]:
    """`addresses`: as the numbers are told, proxies and all. The canary belongs to the second account."""
    accounts: list[Account] = []
    for index in (1, 2):
        login = make_account(stack, f"Chaos {index}", f"chaos{index}@pombo.example")
        api = signed_in(stack, login)
        pool: list[PoolNumber] = [add_number(plan, api, simulator, addresses) for plan in numbers_of(index)]
        accounts.append(Account(api, login.account_id, f"senha{secrets.token_hex(5)}", pool))
    return accounts, plant_canary(accounts[1].api)
