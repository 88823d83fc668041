"""`pombo up`: the system in one terminal until Ctrl-C, its logs merged into readable lines."""

import signal
import threading

from rich.console import Console

from pombo.client.simulator import Simulator
from pombo.demo import settings
from pombo.demo.account import EMAIL, Login, make_account, signed_in
from pombo.demo.fleet import add_number, four_kinds
from pombo.demo.spreadsheet import make_spreadsheet
from pombo.login import SavedLogin, save_login
from pombo.stack import RunFolder, Stack, Wishes
from pombo.stack.folder import runs_folder
from pombo.stack.merged_logs import MergedLogs

PEOPLE = 1000
SHEET_PEOPLE = 200


def up(console: Console) -> int:
    """Data, keys and logins stay in the folder: the next `up` goes on where this one ended."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    folder = RunFolder(runs_folder() / "up")
    stack = Stack(folder, Wishes(simulator=settings.SIMULATOR, time_scale=1.0), lambda text: console.print(text))
    logs = MergedLogs(folder.logs, console)
    try:
        stack.start()
        login = _prepare(stack)
        _introduce(stack, login, console)
        while not stopping.is_set():
            logs.show_new()
            for name in stack.ended():
                console.print(f"[bold red]{name} ended by itself and is started again[/]")
                stack.processes[name].start()
            stopping.wait(0.2)
        console.print("stopping")
    finally:
        stack.stop()
    logs.show_new()
    return 0


def _prepare(stack: Stack) -> Login:
    """A login, and on the first start one number of each provider; the simulator forgets, so they are told anew."""
    login = make_account(stack, "Aura", EMAIL)
    with signed_in(stack, login) as api:
        simulator = Simulator(stack.addresses.simulator)
        known = {instance["name"]: instance for instance in api.get("/api/instances")}
        for plan in four_kinds(PEOPLE):
            add_number(plan, api, simulator, stack.addresses, known.get(plan.name))
        simulator.close()
        save_login(SavedLogin(stack.addresses.api, api.access_token, api.refresh_token, login.email))
    return login


def _introduce(stack: Stack, login: Login, console: Console) -> None:
    addresses = stack.addresses
    sheet = stack.folder.path / "contatos.csv"
    sheet.write_bytes(make_spreadsheet(SHEET_PEOPLE, 1).content)
    console.print()
    for what, value in (
        ("API", f"{addresses.api}/api/docs"),
        ("webhooks", f"{addresses.webhooks}/api/webhook"),
        ("simulator", f"{addresses.simulator}/_control/stats"),
        ("Kafka", addresses.kafka_bootstrap),
        ("sign in as", f"{login.email}  {login.password}"),
        (
            "try",
            f"pombo campaign create --file {sheet} --text 'Olá {{{{nome}}}}' --max-delay-s 0 --min-delay-s 0 --start",
        ),
        ("data, logs", str(stack.folder.path)),
    ):
        console.print(f"  [bold]{what:<12}[/]{value}", highlight=False, soft_wrap=True)
    console.print("  Ctrl-C stops everything.\n")
