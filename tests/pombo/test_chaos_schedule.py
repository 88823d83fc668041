"""Schedules are the seed's alone, the matrix names what it plays, and every crash point of it is in the code."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pombo.backing.folders import repository_root
from pombo.chaos import report, results, schedule
from pombo.chaos.chaos import ChaosWishes, scenarios
from pombo.chaos.faults import (
    Cancel,
    Crash,
    Freeze,
    Kill,
    Pause,
    Poison,
    Provider,
    Stop,
    ambiguity_allowed,
    ambiguity_s,
    described,
)
from pombo.chaos.links import Detours
from pombo.chaos.results import Result
from pombo.chaos.toxics import HalfOpen
from pombo.marked import MarksMissing
from pombo.stack import Service


def a_result(**changes: object) -> Result:
    scenario = schedule.drawn(1, 100)
    result = Result(
        "2026-01-01T00:00:00+00:00",
        died={},
        recovery_s=1.0,
        bound_s=30.0,
        took_s=9.0,
        broken={},
        rss_mib={},
        **results.of_scenario(scenario, None),
    )
    return replace(result, **changes)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert schedule.drawn(7, 500) == schedule.drawn(7, 500)
    assert len({schedule.drawn(seed, 500).planned for seed in range(50)}) == 50
    assert schedule.fixed("a", schedule.short()["network"], 3, 200) == schedule.fixed(
        "a", schedule.short()["network"], 3, 200
    )


def test_faults_come_in_the_order_of_their_moments() -> None:
    for seed in range(100):
        shares = [planned.at_share for planned in schedule.drawn(seed, 500).planned]
        assert shares == sorted(shares)
        assert all(0 <= share <= 0.8 for share in shares)


def test_drawn_schedules_meet_every_kind_of_fault() -> None:
    met = {type(fault) for seed in range(200) for fault in schedule.drawn(seed, 500).faults}
    assert met == {Kill, Stop, Freeze, Crash, Poison, Provider, Pause, Cancel}


def test_the_matrix_has_each_fault_alone_and_all_main_pairs() -> None:
    assert len(schedule.pairs()) == 8 * 7 // 2
    singles = [fault for faults in schedule.singles().values() for fault in faults]
    assert len(schedule.singles()) == len(singles)  # no two of one name
    killed = {fault.target for fault in singles if isinstance(fault, Kill)}
    assert killed == set(schedule.TARGETS)
    assert {fault.link for fault in singles if isinstance(fault, Poison)} == set(schedule.LINKS)


def test_every_crash_point_is_in_the_code_and_every_one_in_the_code_is_played() -> None:
    root = repository_root()
    call = re.compile(r"crash_point\(\"(\w+)\"\)")
    for service, points in schedule.CRASH_POINTS.items():
        own = {name for path in _sources(root / "services" / service.value) for name in call.findall(path.read_text())}
        shared = {"outbox_published", "inbox_handled", "inbox_committed"}
        assert own <= set(points)
        assert set(points) <= own | shared


def _sources(folder: Path) -> list[Path]:
    return sorted((folder / "src").rglob("*.py"))


def test_every_fault_has_its_own_words_and_a_bound() -> None:
    faults = [fault for faults in (schedule.singles() | schedule.pairs()).values() for fault in faults]
    for fault in faults:
        assert described(fault)
        assert ambiguity_s(fault) >= 0
    assert ambiguity_s(Kill("sender", times=3)) == 3 * ambiguity_s(Kill("sender")) > 0
    assert ambiguity_s(Kill("projections")) == 0


def test_a_matrix_goes_on_where_the_results_end() -> None:
    wishes = ChaosWishes(matrix="full", seed=1, recipients=100)
    everything = list(scenarios(wishes, []))
    done = [
        a_result(scenario=everything[0].name, seed=1, recipients=100),
        a_result(scenario=everything[1].name, seed=2, recipients=100),
        a_result(scenario=everything[2].name, seed=1, recipients=100, broken={"I2": ["…"]}),
    ]
    assert list(scenarios(wishes, done)) == everything[1:]


def test_drawn_runs_go_on_until_the_file_has_enough() -> None:
    wishes = ChaosWishes(recipients=100, until_runs=3, until_messages=700)
    assert [scenario.seed for scenario in scenarios(wishes, [])] == [1, 2, 3, 4]
    before = [a_result(seed=2), a_result(seed=3, broken={"I2": ["…"]})]
    assert [scenario.seed for scenario in scenarios(wishes, before)] == [1, 3, 4]
    many = a_result(scenario="other", tally=a_result().tally | {"messages": 700})
    assert [scenario.seed for scenario in scenarios(wishes, [many])] == [1, 2]


def test_only_the_wanted_scenarios_are_played() -> None:
    found = list(scenarios(ChaosWishes(matrix="short", only="stores"), []))
    assert [scenario.name for scenario in found] == ["stores"]
    drawn = list(scenarios(ChaosWishes(runs=3, seed=5), []))
    assert [scenario.seed for scenario in drawn] == [5, 6, 7]


def test_results_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    kept = a_result()
    broken = a_result(seed=2, broken={"I2": ["dispatch x: 2 possibly accepted sends"]})
    for result in (kept, broken):
        results.append(file, result)
    assert results.read_results(file) == [kept, broken]
    assert results.known([kept]) == {("drawn", 1, 100)}
    assert (kept.verdict, broken.verdict) == ("holds", "BROKEN I2")


def test_a_line_tells_what_matters() -> None:
    line = a_result(faults=["kill kafka @0.50"]).line()
    for part in (
        "seed 1",
        "kill kafka @0.50",
        "100 messages",
        "named/unnamed 0/0",
        "lost 0",
        "recovery 1.0 s",
        "holds",
    ):
        assert part in line


def test_the_report_has_every_run_and_names_the_broken_ones(tmp_path: Path) -> None:
    file, document = tmp_path / "results.jsonl", tmp_path / "reliability.md"
    for seed in (1, 2, 3, 7):
        results.append(file, a_result(seed=seed, recovery_s=float(seed)))
    results.append(
        file,
        a_result(
            scenario="kafka",
            seed=4,
            broken={"I9": ["1 rows still wait in sender.outbox"]},
            cause="a relay died",
            mended_by="abc1234",
        ),
    )
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_report(file, document)
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| 5 | 4 | 500 |" in text
    assert "| drawn | 1–3, 7 | 4 |" in text
    assert "I9: 1 rows still wait in sender.outbox | a relay died | abc1234 |" in text


def test_a_document_without_marks_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "reliability.md"
    document.write_text("nothing")
    with pytest.raises(MarksMissing):
        report.write_report(tmp_path / "none.jsonl", document)


@pytest.mark.parametrize("service", list(Service))
def test_a_service_is_told_the_proxies_and_nothing_else(tmp_path: Path, service: Service) -> None:
    detours = Detours(tmp_path)
    by_name = {link.name: link for link in detours.links}
    postgres, provider = by_name[f"postgres/{service.value}"], by_name["provider"]
    kafka_port = detours.reroute(service, {"X": "unchanged"})
    assert kafka_port == {"X": "unchanged"}
    told = {
        "POSTGRES__DSN": f"postgresql://role:secret@127.0.0.1:{postgres.target_port}/pombo",
        "EVOLUTION_API_URL": f"http://127.0.0.1:{provider.target_port}",
        "HEALTH__PORT": str(provider.target_port),
    }
    assert detours.reroute(service, told) == {
        "POSTGRES__DSN": f"postgresql://role:secret@127.0.0.1:{postgres.port}/pombo",
        "EVOLUTION_API_URL": f"http://127.0.0.1:{provider.port}",
        "HEALTH__PORT": str(provider.target_port),
    }


def test_each_service_has_a_door_at_kafka_that_leads_back_to_its_proxy(tmp_path: Path) -> None:
    detours = Detours(tmp_path)
    by_name = {link.name: link for link in detours.links}
    for service, door in zip(Service, detours.doors.values(), strict=True):
        link = by_name[f"kafka/{service.value}"]
        assert (link.target_port, link.port) == (door.port, door.told_port)
    assert len({link.port for link in detours.links}) == len(detours.links) == 12
    assert {link.port for link in Detours(tmp_path).links} == {link.port for link in detours.links}


def test_a_fault_explains_no_more_than_was_sent_in_its_time() -> None:
    """600 messages in 20 seconds and one kill of the sender: 239 without an answer are not explained."""
    sent_ns = [round(nth / 30 * 1e9) for nth in range(600)]
    assert 14 <= ambiguity_allowed([Kill("sender")], sent_ns) <= 17
    assert ambiguity_allowed([Kill("projections"), Pause(2.0)], sent_ns) == 0
    assert ambiguity_allowed([Poison("provider", HalfOpen(), 60.0)], sent_ns) == 600
    assert ambiguity_allowed([Kill("sender")], []) == 0
