"""Who asks: taken from the token only. Routes say which role they need; what is not said is refused."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from campaign_api.door.problems import Problem

Role = Literal["operator", "supervisor", "admin"]
RANK: dict[Role, int] = {"operator": 1, "supervisor": 2, "admin": 3}


@dataclass(frozen=True, slots=True)
class Principal:
    """`kind`: a person's token, an API key, or Pombo itself (worker, command line)."""

    account_id: UUID
    user_id: UUID | None
    role: Role
    kind: Literal["user", "api_key", "system"]
    address: str | None = None
    own_only: bool = False

    @property
    def session(self) -> dict[str, str]:
        """Settings of the transaction that row-level security reads. `own_only`: nothing that others own."""
        own_only = "true" if self.own_only else ""
        return {"user_id": str(self.user_id or ""), "role": self.role, "own_only": own_only}


_bearer = HTTPBearer(auto_error=False, description="an access token from POST /api/auth/sign-in, or an API key")


class Allowed:
    """Dependency: the principal, if their role is at least `role`. The matrix test reads `role` from each route."""

    def __init__(self, role: Role) -> None:
        self.role: Role = role

    async def __call__(self, request: Request, _: Annotated[Any, Depends(_bearer)] = None) -> Principal:
        principal = request.scope.get("principal")
        if not isinstance(principal, Principal):
            raise Problem(401, "Sign in first", headers={"WWW-Authenticate": "Bearer"})
        if RANK[principal.role] < RANK[self.role]:
            raise Problem(403, f"This needs the role {self.role}")
        return principal


Operator = Annotated[Principal, Depends(Allowed("operator"))]
Supervisor = Annotated[Principal, Depends(Allowed("supervisor"))]
Admin = Annotated[Principal, Depends(Allowed("admin"))]
