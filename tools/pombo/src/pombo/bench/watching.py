"""What people see while messages go out: how soon a status is in the read model, how long the API takes (G7, G13)."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pombo.bench.figures import Figure
from pombo.bench.measures import NS, crossings_s, spread_ms
from pombo.bench.probes import Answer, Probe, ask_evenly
from pombo.bench.running import SPARE, Bench, Campaign
from pombo.demo.fleet import PoolNumber

FIGURES = ("status_visible_p99_ms", "api_p99_ms")
LOOKS_PER_S = 10
ASKED_PER_S = 10
CALM_SHARE = 0.7
CALM_NUMBERS = 4
WARM_S, PLANNED_S = 5.0, 5.0
CALM_WINDOWS = 0.5  # of a window: the calmer run is only to be compared with


@dataclass(frozen=True, slots=True)
class Watched:
    """One window: latencies in seconds, and the pace at which messages were sent."""

    visible_s: Sequence[float]
    asked: Sequence[Answer]
    per_second: float
    ran_dry: bool

    @property
    def load(self) -> dict[str, Any]:
        """`ran_dry`: there was nothing left to be sent before the window's end, so part of it was calm."""
        return {"messages_per_second": round(self.per_second, 1)} | ({"ran_dry": True} if self.ran_dry else {})

    def visible(self) -> dict[str, Any]:
        return spread_ms(self.visible_s) | self.load

    def answered(self) -> dict[str, Any]:
        failed = sum(answer.status != 200 for answer in self.asked)
        spread = spread_ms([answer.latency_s for answer in self.asked])
        return spread | {"failed": failed} | self.load


def measure(bench: Bench) -> Iterator[Figure]:
    """As fast as the machine sends, and again paced below that: a full machine makes queues, a busy one should not."""
    flat_out = _watch(bench, bench.unpaced(), bench.wishes.duration_s, bench.pace())
    calm_rate = min(1000.0, CALM_SHARE * flat_out.per_second)
    numbers = bench.add_numbers(CALM_NUMBERS, calm_rate / CALM_NUMBERS)
    calm = _watch(bench, numbers, bench.wishes.duration_s * CALM_WINDOWS, calm_rate)
    share = f"paced_at_{CALM_SHARE * 100:.0f}_percent"
    visible, answered = flat_out.visible(), flat_out.answered()
    yield bench.figure(
        FIGURES[0],
        visible["p99_ms"],
        "ms",
        **visible,
        status="read",
        since="the webhook was answered",
        until="counted in the campaign's statistics",
        looks_per_second=LOOKS_PER_S,
        **{share: calm.visible()},
    )
    yield bench.figure(
        FIGURES[1],
        answered["p99_ms"],
        "ms",
        **answered,
        asked="campaigns, recipients, conversations, contacts, statistics",
        **{share: calm.answered()},
    )


def _watch(bench: Bench, pool: Sequence[PoolNumber], window_s: float, expected_per_s: float) -> Watched:
    bench.settle()
    campaign = bench.draft(int(expected_per_s * (window_s + WARM_S + PLANNED_S) * SPARE) + 1000, pool)
    arrivals = bench.arrivals()
    bench.start(campaign)
    bench.until_planned(campaign)
    bench.wait(WARM_S)
    from_ns = time.monotonic_ns()
    until_ns = from_ns + round(window_s * NS)
    answers = ask_evenly(
        bench.stack.addresses.api, bench.api.access_token, _probes(campaign), lambda now_ns: now_ns > until_ns
    )
    looks = [(answer.answered_ns, _read(answer)) for answer in answers if answer.body]
    bench.wait(1.0)
    bench.simulator.stats()
    sends, reports = arrivals.read()
    read_ns = [report.at_ns for report in reports if report.status == "read"]
    # What the last looks could not show yet waits for one that can.
    looks.append(_look_for(bench, campaign, sum(at_ns <= until_ns for at_ns in read_ns)))
    bench.settle()
    window = [at_ns for at_ns in read_ns if at_ns <= until_ns]
    sent = sum(from_ns <= send.at_ns <= until_ns for send in sends)
    ran_dry = sum(send.at_ns <= until_ns for send in sends) >= campaign.people
    return Watched(crossings_s(window, looks, from_ns), answers, sent / window_s, ran_dry)


def _probes(campaign: Campaign) -> list[Probe]:
    lists = ("/api/campaigns", f"{campaign.path}/recipients", "/api/conversations", "/api/contacts")
    return [Probe([f"{campaign.path}/statistics"], LOOKS_PER_S), Probe(lists, ASKED_PER_S)]


def _read(answer: Answer) -> int:
    return int(answer.body["read"])


def _look_for(bench: Bench, campaign: Campaign, count: int) -> tuple[int, int]:
    found = bench.until(campaign, lambda figures: bool(figures["read"] >= count), within_s=60)
    return time.monotonic_ns(), int(found["read"])
