"""Pause under load: how soon `paused` is acknowledged, and whether anything leaves after that (G9)."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pombo.bench.arrivals import by_text
from pombo.bench.figures import Figure
from pombo.bench.measures import NS, between, spread_ms
from pombo.bench.running import SPARE, Bench, Campaign
from pombo.client.api import Refused
from pombo.demo.scenario import ENDED, Stuck

FIGURES = ("pause_ack_p99_ms", "sends_after_pause_ack")
CAMPAIGNS = 6
EVERY_S = 1.0  # between two pauses, of different campaigns in turn
HELD_S = 1.5
POLL_S = 0.05
PLANNED_S = 25.0
ACK_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Paused:
    campaign: Campaign
    due_ns: int
    acknowledged_ns: int
    resume_ns: int


def measure(bench: Bench) -> Iterator[Figure]:
    """Several campaigns send as fast as the machine lets them, one after the other is paused and resumed."""
    pool = bench.unpaced()
    pauses = max(CAMPAIGNS, int(bench.wishes.duration_s / EVERY_S))
    people = int(bench.pace() * (bench.wishes.duration_s + PLANNED_S) * SPARE / CAMPAIGNS) + 1000
    campaigns = [bench.draft(people, pool, fixed_text=True) for _ in range(CAMPAIGNS)]
    arrivals = bench.arrivals()
    for campaign in campaigns:
        bench.start(campaign)
    for campaign in campaigns:
        bench.until_planned(campaign)
    began_ns = time.monotonic_ns()
    paused = _pause_in_turn(bench, campaigns, pauses)
    took_s = (time.monotonic_ns() - began_ns) / NS
    bench.wait(1.0)
    bench.simulator.stats()
    sends, _ = arrivals.read()
    texts = by_text(sends)
    after = [between(texts[one.campaign.text_sha], one.acknowledged_ns, one.resume_ns) for one in paused]
    moving = sum(between(texts[one.campaign.text_sha], one.due_ns - NS, one.due_ns) > 0 for one in paused)
    conditions = {
        "campaigns": CAMPAIGNS,
        "pauses": len(paused),
        "pauses_of_a_campaign_that_sent_in_the_second_before": moving,
        "messages_per_second": round(sum(at.at_ns >= began_ns for at in sends) / took_s, 1),
    }
    latencies_s = [(one.acknowledged_ns - one.due_ns) / NS for one in paused]
    spread = spread_ms(latencies_s)
    yield bench.figure(FIGURES[0], spread["p99_ms"], "ms", **spread, **conditions)
    yield bench.figure(FIGURES[1], sum(after), "messages", **conditions, held_s=HELD_S)


def _pause_in_turn(bench: Bench, campaigns: Sequence[Campaign], pauses: int) -> list[Paused]:
    """One thread for each campaign; a pause is due at its time however long the one before took."""
    began_ns = time.monotonic_ns()

    def pause_one(index: int) -> list[Paused]:
        found = []
        for turn in range(index, pauses, len(campaigns)):
            if (one := _pause(bench, campaigns[index], began_ns + round(turn * EVERY_S * NS))) is None:
                break
            found.append(one)
        return found

    with ThreadPoolExecutor(len(campaigns)) as threads:
        found = [one for group in threads.map(pause_one, range(len(campaigns))) for one in group]
    if not found:
        raise Stuck("every campaign was over before it could be paused: too few people for this machine")
    return sorted(found, key=lambda one: one.due_ns)


def _pause(bench: Bench, campaign: Campaign, due_ns: int) -> Paused | None:
    """None: the campaign has ended, everybody was sent to."""
    time.sleep(max(0.0, (due_ns - time.monotonic_ns()) / NS))
    try:
        status = bench.api.put(f"{campaign.path}/pause")["campaign"]["status"]
    except Refused:
        if bench.api.get(campaign.path)["status"] in ENDED:
            return None
        raise
    deadline_s = time.monotonic() + ACK_WITHIN_S
    while status == "pausing":
        if time.monotonic() > deadline_s:
            raise Stuck(f"campaign {campaign.id} is pausing for {ACK_WITHIN_S:.0f} s")
        time.sleep(POLL_S)
        status = bench.api.get(campaign.path)["status"]
    acknowledged_ns = time.monotonic_ns()
    if status != "paused":
        return None
    time.sleep(HELD_S)
    resume_ns = time.monotonic_ns()
    bench.api.put(f"{campaign.path}/resume")
    return Paused(campaign, due_ns, acknowledged_ns, resume_ns)
