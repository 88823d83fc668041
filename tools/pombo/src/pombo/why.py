"""`pombo why …`: why is nothing moving, and until when; told by all services, shown in one page."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pombo.client.api import Api
from pombo.login import saved_api

app = typer.Typer(no_args_is_help=True, help="Why is nothing moving: every reason that holds it, and until when.")
console = Console()
Id = Annotated[UUID, typer.Argument(show_default=False)]
# A policy that does what it should is no trouble.
_USUAL = frozenset({"its_turn", "planning", "credit", "delay", "rest", "with_sender", "under_way"})


@app.command()
def campaign(campaign_id: Id) -> None:
    """What holds or slows a campaign, and when it will be through."""
    with saved_api() as api:
        show(console, api.get(f"/api/campaigns/{campaign_id}/explain"), datetime.now(UTC))


@app.command()
def instance(instance_id: Annotated[str, typer.Argument(help="its id or its name", show_default=False)]) -> None:
    """What holds or slows a number, and when all that waits in its lane will have left."""
    with saved_api() as api:
        show(console, api.get(f"/api/instances/{_instance(api, instance_id)}/explain"), datetime.now(UTC))


@app.command()
def dispatch(dispatch_id: Id) -> None:
    """Why one message waits, and when it leaves."""
    with saved_api() as api:
        show(console, api.get(f"/api/dispatches/{dispatch_id}/explain"), datetime.now(UTC))


@app.command()
def recipient(campaign_id: Id, recipient_id: Id) -> None:
    """Why this person has not got a campaign's next message, and when it leaves."""
    with saved_api() as api:
        found = api.get(f"/api/campaigns/{campaign_id}/recipients/{recipient_id}/explain")
        show(console, found, datetime.now(UTC))


def _instance(api: Api, wanted: str) -> str:
    try:
        return str(UUID(wanted))
    except ValueError:
        pass
    names = {one["name"]: str(one["id"]) for one in api.pages("/api/instances")}
    if wanted not in names:
        raise typer.BadParameter(f"no instance is called {wanted!r}; there are {', '.join(sorted(names)) or 'none'}")
    return names[wanted]


def show(where: Console, found: dict[str, Any], now: datetime) -> None:
    """An answer of the API, as a person reads it."""
    named = f"[bold]{escape(found['name'] or found['id'])}[/]"
    where.print(f"{named}  {found['status'] or found['subject']}", highlight=False)
    where.print(escape(found["summary"]), highlight=False)
    if found["reasons"]:
        table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True, style="dim")
        for reason in found["reasons"]:
            table.add_row(_mark(reason), escape(reason["text"]), _left(reason["until"], now))
        where.print(table)
    where.print(_outlook(found, now), highlight=False)


def _mark(reason: dict[str, Any]) -> str:
    if reason["slows"]:
        return "[yellow]slows[/]"
    return "[dim]usual[/]" if reason["reason"] in _USUAL else "[red]holds[/]"


def _outlook(found: dict[str, Any], now: datetime) -> str:
    waiting = f"{found['waiting']} messages wait. " if found["waiting"] is not None else ""
    if found["estimated_end"] is None:
        known = found["subject"] != "dispatch" and found["waiting"]
        return f"{waiting}No end can be told: somebody has to act first." if known else waiting.strip()
    what = "It leaves" if found["subject"] == "dispatch" else "The last one leaves"
    end = datetime.fromisoformat(found["estimated_end"])
    return f"{waiting}{what} at about {end.astimezone():%a %d %b %Y %H:%M} ({_left(found['estimated_end'], now)})."


def _left(until: str | None, now: datetime) -> str:
    """How long that is from now."""
    if until is None:
        return ""
    left = datetime.fromisoformat(until) - now
    if left < timedelta(minutes=2):
        return f"in {max(0, round(left.total_seconds()))} s"
    if left < timedelta(hours=2):
        return f"in {round(left.total_seconds() / 60)} min"
    return f"in {round(left.total_seconds() / 3600)} h" if left < timedelta(days=3) else f"in {left.days} days"
