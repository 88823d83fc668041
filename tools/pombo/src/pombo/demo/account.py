"""Accounts of a run: made and signed in through the API."""

from dataclasses import dataclass

from pombo.client.api import Api, Refused
from pombo.stack import Stack

EMAIL = "demo@pombo.example"
CONFLICT = 409


@dataclass(frozen=True, slots=True)
class Login:
    email: str
    password: str
    account_id: str


def make_account(stack: Stack, name: str, email: str) -> Login:
    """One that is there already (an earlier run of the same folder) is taken."""
    password = stack.secrets.login_password
    with Api(stack.addresses.api) as api:
        try:
            body = {"account_name": name, "name": name, "email": email, "password": password}
            answer = api.post("/api/accounts", json=body)
        except Refused as refused:
            if refused.status != CONFLICT:
                raise
            answer = api.sign_in(email, password)
    return Login(email, password, answer["user"]["account_id"])


def signed_in(stack: Stack, login: Login) -> Api:
    api = Api(stack.addresses.api)
    api.sign_in(login.email, login.password)
    return api
