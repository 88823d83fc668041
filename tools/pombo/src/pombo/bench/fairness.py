"""How much others cost: a small campaign beside a large one, people's answers beside a campaign, a dead number (G14).

Ratios of the same work beside others and alone, on one machine: all limits are far below what the machine carries.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

from pombo.bench.figures import Figure
from pombo.bench.measures import NS, percentile, spread_ms
from pombo.bench.running import POLL_S, Bench, Campaign
from pombo.client.api import Api
from pombo.demo.account import make_account, signed_in
from pombo.demo.fleet import PoolNumber
from pombo.demo.scenario import Stuck

FIGURES = (
    "small_tenant_delay_ratio",
    "small_campaign_delay_ratio_same_number",
    "answer_p99_ms_beside_campaign",
    "healthy_number_delay_ratio",
)
SMALL = 200
SMALL_PER_S = 20
LARGE_PER_S = 40
LARGE_NUMBERS_MAX = 8
CARRIED_SHARE = 0.4
ROUNDS = 2
ANSWERS = 30
ANSWER_EACH_S = 0.3
WITHIN_S = 120.0
OTHER_EMAIL = "small@pombo.example"


def measure(bench: Bench) -> Iterator[Figure]:
    bench.pace()
    bench.settle()
    yield from _tenants(bench)
    bench.settle()
    yield from _one_number(bench)
    bench.settle()
    yield from _answers(bench)
    bench.settle()
    yield from _dead_number(bench)


def _tenants(bench: Bench) -> Iterator[Figure]:
    """The large campaign is planned and sent meanwhile, by another account from other numbers."""
    with signed_in(bench.stack, make_account(bench.stack, "Pequena", OTHER_EMAIL)) as api:
        small = _of(bench, api)
        (number,) = small.add_numbers(1, SMALL_PER_S)
        alone = [_delays(small, number) for _ in range(ROUNDS)]
        count = max(1, min(LARGE_NUMBERS_MAX, int(CARRIED_SHARE * bench.pace() / LARGE_PER_S)))
        large = bench.draft(bench.wishes.rows, bench.add_numbers(count, LARGE_PER_S))
        bench.start(large)
        beside = [_delays(small, number) for _ in range(ROUNDS)]
        still = _still_sending(bench, large)
    yield _ratio(bench, FIGURES[0], beside, alone, large_recipients=large.people, large_numbers=count, **still)


def _of(bench: Bench, api: Api) -> Bench:
    """The same stack as another account has it."""
    return replace(bench, api=api, _started=[], _unpaced=[])


def _one_number(bench: Bench) -> Iterator[Figure]:
    """Half of the number is the small campaign's share: it takes twice as long as alone, and little more."""
    (number,) = bench.add_numbers(1, SMALL_PER_S)
    alone = [_delays(bench, number) for _ in range(ROUNDS)]
    large = bench.draft(bench.wishes.rows, [number])
    bench.start(large)
    _until_sending(bench, large)
    beside = [_delays(bench, number) for _ in range(ROUNDS)]
    yield _ratio(bench, FIGURES[1], beside, alone, large_recipients=large.people, **_still_sending(bench, large))


def _answers(bench: Bench) -> Iterator[Figure]:
    """From a person's request until the provider has it, from a number whose campaign uses all of its rate."""
    (number,) = bench.add_numbers(1, SMALL_PER_S)
    conversations = _conversations(bench, number)
    alone = _answer_all(bench, number, conversations)
    large = bench.draft(bench.wishes.rows, [number])
    bench.start(large)
    _until_sending(bench, large)
    beside = _answer_all(bench, number, conversations)
    yield bench.figure(
        FIGURES[2],
        spread_ms(beside)["p99_ms"],
        "ms",
        **spread_ms(beside),
        alone_p50_ms=spread_ms(alone)["p50_ms"],
        alone_p99_ms=spread_ms(alone)["p99_ms"],
        number_per_second=SMALL_PER_S,
        released_ahead="up to five seconds of the number's rate",
        **_still_sending(bench, large),
    )


def _dead_number(bench: Bench) -> Iterator[Figure]:
    """Two numbers of one account, each with its own campaign; then one of them gets no answer any more."""
    healthy, other = bench.add_numbers(2, SMALL_PER_S)
    fine, dead = list[list[float]](), list[list[float]]()
    for answers, found in ((True, fine), (False, dead)):
        bench.simulator.change_number(other.number, faults={} if answers else {"hang_share": 1.0})
        large = bench.draft(SMALL_PER_S * 30 * ROUNDS, [other])
        bench.start(large)
        _until_planned_in_part(bench, large)
        found += [_delays(bench, healthy) for _ in range(ROUNDS)]
    bench.simulator.change_number(other.number, faults={})
    yield _ratio(bench, FIGURES[3], dead, fine, other_number="never answers", alone_means="beside one that answers")


def _delays(bench: Bench, number: PoolNumber) -> list[float]:
    """Seconds from a small campaign's start until each of its messages is at the provider."""
    campaign = bench.draft(SMALL, [number], fixed_text=True)
    arrivals, times = bench.arrivals(), list[int]()
    began_ns = time.monotonic_ns()
    bench.start(campaign)

    def arrived() -> bool:
        bench.simulator.stats()
        sends = arrivals.read()[0]
        times.extend(send.at_ns for send in sends if send.text_sha == campaign.text_sha)
        return len(times) >= campaign.people

    _await(bench, arrived, f"{campaign.people} messages of a small campaign")
    return [(at_ns - began_ns) / NS for at_ns in times]


def _ratio(
    bench: Bench, name: str, beside: list[list[float]], alone: list[list[float]], **conditions: object
) -> Figure:
    """Of the medians of each round's p99."""
    with_others, without = ([round(percentile(one, 99), 2) for one in rounds] for rounds in (beside, alone))
    return bench.figure(
        name,
        median(with_others) / median(without),
        "times",
        p99_s_beside=with_others,
        p99_s_alone=without,
        recipients=SMALL,
        number_per_second=SMALL_PER_S,
        **conditions,
    )


def _conversations(bench: Bench, number: PoolNumber) -> list[str]:
    """People who wrote to the number, so that they may be answered in words."""
    for person in range(ANSWERS):
        bench.simulator.write_in(number.number, f"55219777{person:05d}", "Oi, tudo bem?")
    found: list[str] = []

    def there() -> bool:
        found[:] = [
            one["id"] for one in bench.api.pages("/api/conversations") if one["instance_id"] == number.instance_id
        ]
        return len(found) >= ANSWERS

    _await(bench, there, "the conversations")
    return found


def _answer_all(bench: Bench, number: PoolNumber, conversations: list[str]) -> list[float]:
    """Seconds from each request to the provider, at even intervals."""
    arrivals, asked_ns, left = bench.arrivals(), dict[str, int](), dict[str, int]()
    for turn, conversation in enumerate(conversations):
        text = f"Resposta {number.number} {turn} {time.monotonic_ns()}"
        asked_ns[hashlib.blake2b(text.encode(), digest_size=8).hexdigest()] = time.monotonic_ns()
        bench.api.post(f"/api/conversations/{conversation}/messages", json={"text": text})
        bench.wait(ANSWER_EACH_S)

    def all_left() -> bool:
        bench.simulator.stats()
        left.update((send.text_sha, send.at_ns) for send in arrivals.read()[0] if send.text_sha in asked_ns)
        return len(left) >= len(asked_ns)

    _await(bench, all_left, "the answers at the provider")
    return [(left[text] - asked_ns[text]) / NS for text in asked_ns]


def _until_sending(bench: Bench, campaign: Campaign) -> None:
    """Its credit is out: whoever comes now comes after it."""
    bench.until(campaign, lambda found: bool(found["sent_count"] > SMALL_PER_S))


def _until_planned_in_part(bench: Bench, campaign: Campaign) -> None:
    bench.until(campaign, lambda found: sum(found["dispatches"].values()) > 0)
    bench.wait(3.0)  # what it was released has met the number as it is now


def _still_sending(bench: Bench, campaign: Campaign) -> dict[str, object]:
    found = bench.statistics(campaign)
    return {"large_status_after": found["status"], "large_pending_after": found["pending_count"]}


def _await(bench: Bench, reached: Callable[[], bool], what: str) -> None:
    """Raises Stuck."""
    deadline_s = time.monotonic() + WITHIN_S
    while not reached():
        if time.monotonic() > deadline_s:
            raise Stuck(f"waited {WITHIN_S:.0f} s for {what}; logs: {bench.stack.folder.logs}")
        bench.wait(POLL_S)
