"""The desk's routes: the same five for products, tasks, groups and canned answers."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from asyncpg import UniqueViolationError
from fastapi import APIRouter, Depends
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.desk import models, store
from campaign_api.desk.store import Table
from campaign_api.door import audit, cursors
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, NewId
from campaign_api.door.principal import Allowed, Operator, Principal, Role
from campaign_api.door.problems import Problem, not_found, responses
from campaign_api.identity import directory
from campaign_api.identity.models import Done
from contracts.directory import ProductSaved

router = APIRouter(prefix="/api", tags=["desk"], route_class=IdempotentRoute)


@dataclass(frozen=True, slots=True)
class Noun:
    """`writer`: the role that may change it. `published`: the read models are told of its rows."""

    path: str
    name: str
    table: Table
    new: type[BaseModel]
    change: type[BaseModel]
    shown: type[BaseModel]
    writer: Role = "operator"
    published: bool = False


NOUNS = (
    Noun(
        "products",
        "Product",
        store.PRODUCTS,
        models.NewProduct,
        models.ProductChange,
        models.Product,
        writer="supervisor",
        published=True,
    ),
    Noun("tasks", "Task", store.TASKS, models.NewTask, models.TaskChange, models.Task),
    Noun("groups", "Group", store.GROUPS, models.NewGroup, models.GroupChange, models.Group),
    Noun(
        "canned-answers",
        "Canned answer",
        store.CANNED_ANSWERS,
        models.NewCannedAnswer,
        models.CannedAnswerChange,
        models.CannedAnswer,
    ),
)


async def _noted(
    connection: AsyncConnection, principal: Principal, noun: Noun, verb: str, row: store.Row, now: datetime
) -> BaseModel:
    """Told to the read models where they show it, and written into the audit log."""
    if noun.published:
        event = ProductSaved(**{name: row[name] for name in noun.table.columns}, deleted=verb == "delete")
        await directory.publish(connection, principal.account_id, row["id"], event, now)
    await audit.note(connection, principal, f"{noun.table.name}.{verb}", str(row["id"]), now=now)
    return noun.shown(**row)


def _lister(noun: Noun) -> Callable[..., Any]:
    async def list_all(
        principal: Operator,
        parts: Here,
        page: cursors.Hundred,
    ) -> Any:
        async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
            rows = await store.some(connection, noun.table, page.after_moment(), page.fetched)
        return [noun.shown(**row) for row in page.cut(rows, "created_at", "id")]

    return list_all


def _creator(noun: Noun) -> Callable[..., Any]:
    async def create(body: Any, principal: Any, parts: Here, row_id: NewId) -> Any:
        now = parts.now()
        try:
            async with parts.web.transaction(account_id=principal.account_id) as connection:
                row = await store.insert(connection, noun.table, principal.account_id, row_id, body.model_dump(), now)
                if row is not None:
                    return await _noted(connection, principal, noun, "create", row, now)
                row = await store.one(connection, noun.table, row_id)  # the same request again
        except UniqueViolationError as error:
            raise Problem(409, f"{noun.name} exists already") from error
        return noun.shown(**row) if row else None

    return _typed(create, noun, body=noun.new)


def _reader(noun: Noun) -> Callable[..., Any]:
    async def one(row_id: UUID, principal: Operator, parts: Here) -> Any:
        async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
            row = await store.one(connection, noun.table, row_id)
        if row is None:
            raise not_found(noun.name)
        return noun.shown(**row)

    return one


def _changer(noun: Noun) -> Callable[..., Any]:
    async def change(row_id: UUID, body: Any, principal: Any, parts: Here) -> Any:
        """Only what is given changes."""
        now = parts.now()
        given = {name: getattr(body, name) for name in body.model_fields_set}
        try:
            async with parts.web.transaction(account_id=principal.account_id) as connection:
                row = await store.change(connection, noun.table, row_id, given, now)
                if row is None:
                    raise not_found(noun.name)
                return await _noted(connection, principal, noun, "change", row, now)
        except UniqueViolationError as error:
            raise Problem(409, f"{noun.name} exists already") from error

    return _typed(change, noun, body=noun.change)


def _deleter(noun: Noun) -> Callable[..., Any]:
    async def delete(row_id: UUID, principal: Any, parts: Here) -> Done:
        now = parts.now()
        async with parts.web.transaction(account_id=principal.account_id) as connection:
            row = await store.delete(connection, noun.table, row_id)
            if row is None:
                raise not_found(noun.name)
            await _noted(connection, principal, noun, "delete", row, now)
        return Done()

    return _typed(delete, noun)


def _typed(handler: Callable[..., Any], noun: Noun, **annotations: Any) -> Callable[..., Any]:
    """FastAPI reads what a route takes from its annotations: they differ by noun."""
    principal = Annotated[Principal, Depends(Allowed(noun.writer))]
    handler.__annotations__ |= {"principal": principal} | annotations
    return handler


def _add(noun: Noun) -> None:
    whole, single = f"/{noun.path}", f"/{noun.path}/{{row_id}}"
    title = noun.path.replace("-", "_")
    shown: Any = noun.shown
    for path, method, handler, status, answers, errors in (
        (whole, "GET", _lister(noun), 200, list[shown], responses(400)),
        (whole, "POST", _creator(noun), 201, shown, responses(409)),
        (single, "GET", _reader(noun), 200, shown, responses(404)),
        (single, "PATCH", _changer(noun), 200, shown, responses(404, 409)),
        (single, "PUT", _changer(noun), 200, shown, responses(404, 409)),
        (single, "DELETE", _deleter(noun), 200, Done, responses(404)),
    ):
        router.add_api_route(
            path,
            handler,
            methods=[method],
            status_code=status,
            response_model=answers,
            responses=errors,
            name=f"{handler.__name__}_{title}",
        )


for _noun in NOUNS:
    _add(_noun)
