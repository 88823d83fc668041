"""`pombo campaign …`: a client of campaign-api, signed in once."""

import time
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from pombo.client.api import Api
from pombo.demo.progress import Progressing, described
from pombo.demo.scenario import ENDED
from pombo.login import SavedLogin, save_login, saved_api

app = typer.Typer(no_args_is_help=True, help="Campaigns, through the API, as the person who is signed in.")
POLL_S = 0.5
console = Console()
CampaignId = Annotated[UUID, typer.Argument(help="the campaign's id, as create and list show it")]


def login(
    address: Annotated[str, typer.Argument(help="of campaign-api, for example http://127.0.0.1:8000")],
    email: Annotated[str, typer.Option(prompt=True)],
    password: Annotated[str, typer.Option(prompt=True, hide_input=True)],
) -> None:
    """Sign in, for the commands that follow."""
    with Api(address) as api:
        answer = api.sign_in(email, password)
        save_login(SavedLogin(api.address, api.access_token, api.refresh_token, email))
    console.print(f"Signed in as {answer['user']['email']} ({answer['user']['role']})", highlight=False)


@app.command("list")
def list_all(status: Annotated[list[str] | None, typer.Option(help="only these states")] = None) -> None:
    """The account's campaigns, newest first."""
    table = Table("id", "name", "status", "people", "sent", "failed")
    with saved_api() as api:
        for campaign in api.pages("/api/campaigns", **({"status": status} if status else {})):
            counts = (str(campaign[name]) for name in ("total_contacts", "sent_count", "failed_count"))
            table.add_row(campaign["id"], campaign["name"], campaign["status"], *counts)
    console.print(table)


@app.command()
def create(
    file: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="CSV or .xlsx of people")],
    text: Annotated[list[str], typer.Option(help="a step's text; again for each further step")],
    name: Annotated[str, typer.Option(help="what the campaign is called")] = "",
    instance: Annotated[
        list[str] | None, typer.Option(help="name or id; again for a pool; default: all active")
    ] = None,
    min_delay_s: Annotated[float, typer.Option(min=0)] = 5,
    max_delay_s: Annotated[float, typer.Option(min=0)] = 15,
    start_now: Annotated[bool, typer.Option("--start", help="start it at once and watch")] = False,
) -> None:
    """A campaign from a file: uploaded, checked, created as a draft or started."""
    with saved_api() as api:
        upload = api.upload(file)
        body = {
            "name": name or file.stem,
            "is_draft": not start_now,
            "instance_pool": _pool(api, instance or []),
            "messages": [{"content": content, "order_index": index} for index, content in enumerate(text)],
            "upload_id": upload["id"],
            "sending_configuration": {"min_delay_seconds": min_delay_s, "max_delay_seconds": max_delay_s},
        }
        made = api.post("/api/campaigns", json=body)
        audience = made["audience"] or {}
        console.print(
            f"{made['id']}  {audience.get('total_contacts', 0)} people, {audience.get('rejected', 0)} rows rejected"
        )
        for warning in made["warnings"]:
            console.print(f"[yellow]{warning}[/]")
        if start_now:
            _watch(api, UUID(made["id"]))


@app.command()
def start(campaign: CampaignId, watch_it: Annotated[bool, typer.Option("--watch/--no-watch")] = True) -> None:
    """Start a draft or scheduled campaign."""
    with saved_api() as api:
        api.post(f"/api/campaigns/{campaign}/start")
        if watch_it:
            _watch(api, campaign)


@app.command()
def watch(campaign: CampaignId) -> None:
    """A bar until the campaign ends; Ctrl-C leaves it running."""
    with saved_api() as api:
        _watch(api, campaign)


@app.command()
def pause(campaign: CampaignId) -> None:
    """Nothing more is sent once this answers `paused`."""
    _act(campaign, "pause")


@app.command()
def resume(campaign: CampaignId) -> None:
    """Go on where it was paused."""
    _act(campaign, "resume")


@app.command()
def cancel(campaign: CampaignId) -> None:
    """End it; what is unsent ends as cancelled."""
    _act(campaign, "cancel")


@app.command()
def stats(campaign: CampaignId) -> None:
    """Its figures."""
    with saved_api() as api:
        found: dict[str, Any] = api.get(f"/api/campaigns/{campaign}/statistics")
    table = Table(show_header=False)
    for name, value in found.items():
        shown = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name, shown)
    console.print(table)


def _act(campaign: UUID, action: str) -> None:
    with saved_api() as api:
        console.print(api.put(f"/api/campaigns/{campaign}/{action}")["campaign"]["status"])


def _watch(api: Api, campaign: UUID) -> None:
    with Progressing(console) as show:
        while True:
            statistics = api.get(f"/api/campaigns/{campaign}/statistics")
            show.show(statistics)
            if statistics["status"] in ENDED:
                show.say(f"{statistics['status']}: {described(statistics)}")
                return
            time.sleep(POLL_S)


def _pool(api: Api, wanted: list[str]) -> list[str]:
    """Ids of the named instances; of all active ones where none is named. Raises BadParameter."""
    known = list(api.pages("/api/instances"))
    if not wanted:
        return [instance["id"] for instance in known if instance["is_active"] and instance["status"] == "active"]
    by_name = {instance["name"]: instance["id"] for instance in known} | {one["id"]: one["id"] for one in known}
    if missing := [name for name in wanted if name not in by_name]:
        raise typer.BadParameter(f"no instance is called {', '.join(missing)}; there are {', '.join(sorted(by_name))}")
    return [by_name[name] for name in wanted]
