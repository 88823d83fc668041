"""Accounts of a run: made by the operators' command, signed in through the API."""

import re
from dataclasses import dataclass

from pombo.client.api import Api
from pombo.stack import Service, Stack, StackFailed

EMAIL = "demo@pombo.example"
_MADE = re.compile(r"account (\S+) user (\S+)")


@dataclass(frozen=True, slots=True)
class Login:
    email: str
    password: str
    account_id: str


def make_account(stack: Stack, name: str, email: str) -> Login:
    """`python -m campaign_api create-account`, as an operator does it. An account that is there is taken."""
    password = stack.secrets.login_password
    ended = stack.run_command(Service.CAMPAIGN_API, "create-account", name, email, name, stdin=f"{password}\n")
    found = _MADE.search(ended.stdout)
    if found is not None:
        return Login(email, password, found.group(1))
    if "already" in ended.stderr:
        with Api(stack.addresses.api) as api:
            answer = api.sign_in(email, password)
        return Login(email, password, answer["user"]["account_id"])
    raise StackFailed(f"The account could not be made:\n{ended.stderr or ended.stdout}")


def signed_in(stack: Stack, login: Login) -> Api:
    api = Api(stack.addresses.api)
    api.sign_in(login.email, login.password)
    return api
