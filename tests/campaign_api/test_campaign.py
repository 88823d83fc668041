"""What a campaign may do next: every state × every request, and invariants over any history."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from campaign_api.campaign import campaign as c
from campaign_api.campaign.campaign import Audience, Campaign, Refused
from contracts.campaigns import (
    CampaignCancelled,
    CampaignCancelling,
    CampaignCompleted,
    CampaignDeleted,
    CampaignEdited,
    CampaignEvent,
    CampaignFailed,
    CampaignPaused,
    CampaignPausing,
    CampaignResumed,
    CampaignScheduled,
    CampaignStarted,
    CampaignUnscheduled,
    Definition,
    Step,
)

ANA = UUID(int=1)
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
DEFINITION = Definition(name="Março", pool=(UUID(int=2),), steps=(Step(kind="text", content="Oi"),) * 2)
PEOPLE = Audience(chunk_count=1, recipient_count=3)

Decide = Callable[[Campaign], list[CampaignEvent]]
create: Decide = partial(c.create, definition=DEFINITION, by=ANA)
schedule: Decide = partial(c.schedule, at=NINE, audience=PEOPLE, by=ANA)
unschedule: Decide = partial(c.unschedule, by=ANA)
start: Decide = partial(c.start, audience=PEOPLE, by=ANA)
pause: Decide = partial(c.pause, by=ANA)
close_gate: Decide = partial(c.close_gate, run_epoch=1)
resume: Decide = partial(c.resume, by=ANA)
retry: Decide = partial(c.retry, by=ANA)
cancel: Decide = partial(c.cancel, by=ANA)
drain: Decide = partial(c.drain, run_epoch=1, planned=6)
block: Decide = partial(c.block, run_epoch=1, reason="no_usable_instance", detail="")
delete: Decide = partial(c.delete, by=ANA)
edit: Decide = partial(c.edit, definition=DEFINITION.model_copy(update={"name": "Abril"}), by=ANA)
come_due: Decide = partial(c.come_due, scheduled_at=NINE, audience=PEOPLE)

HISTORIES: dict[str, tuple[Decide, ...]] = {
    "draft": (create,),
    "scheduled": (create, schedule),
    "running": (create, start),
    "pausing": (create, start, pause),
    "paused": (create, start, pause, close_gate),
    "cancelling": (create, start, cancel),
    "cancelled": (create, start, cancel, close_gate),
    "completed": (create, start, drain),
    "failed": (create, start, block),
    "deleted": (create, delete),
}
REQUESTS: dict[str, Decide] = {
    "edit": edit,
    "schedule": schedule,
    "unschedule": unschedule,
    "start": start,
    "come_due": come_due,
    "pause": pause,
    "close_gate": close_gate,
    "resume": resume,
    "retry": retry,
    "cancel": cancel,
    "drain": drain,
    "block": block,
    "delete": delete,
}
# What each request does in each state: the event's type, [] = it is so already or is no concern, "no" = refused.
NO = "no"
TABLE: dict[str, dict[str, Any]] = {
    "draft": {
        "edit": CampaignEdited,
        "schedule": CampaignScheduled,
        "unschedule": [],
        "start": CampaignStarted,
        "come_due": [],
        "pause": NO,
        "close_gate": [],
        "resume": NO,
        "retry": NO,
        "cancel": CampaignCancelled,
        "drain": [],
        "block": [],
        "delete": CampaignDeleted,
    },
    "scheduled": {
        "edit": CampaignEdited,
        "schedule": [],
        "unschedule": CampaignUnscheduled,
        "start": CampaignStarted,
        "come_due": CampaignStarted,
        "pause": NO,
        "close_gate": [],
        "resume": NO,
        "retry": NO,
        "cancel": CampaignCancelled,
        "drain": [],
        "block": [],
        "delete": CampaignDeleted,
    },
    "running": {
        "edit": NO,
        "schedule": NO,
        "unschedule": NO,
        "start": [],
        "come_due": [],
        "pause": CampaignPausing,
        "close_gate": [],
        "resume": [],
        "retry": NO,
        "cancel": CampaignCancelling,
        "drain": CampaignCompleted,
        "block": CampaignFailed,
        "delete": NO,
    },
    "pausing": {
        "edit": NO,
        "schedule": NO,
        "unschedule": NO,
        "start": NO,
        "come_due": [],
        "pause": [],
        "close_gate": CampaignPaused,
        "resume": NO,
        "retry": NO,
        "cancel": CampaignCancelling,
        "drain": [],
        "block": [],
        "delete": NO,
    },
    "paused": {
        "edit": NO,
        "schedule": NO,
        "unschedule": NO,
        "start": NO,
        "come_due": [],
        "pause": NO,
        "close_gate": [],
        "resume": CampaignResumed,
        "retry": NO,
        "cancel": CampaignCancelling,
        "drain": [],
        "block": [],
        "delete": CampaignDeleted,
    },
    "cancelling": {
        "edit": NO,
        "schedule": NO,
        "unschedule": NO,
        "start": NO,
        "come_due": [],
        "pause": NO,
        "close_gate": CampaignCancelled,
        "resume": NO,
        "retry": NO,
        "cancel": [],
        "drain": [],
        "block": [],
        "delete": NO,
    },
    "cancelled": dict.fromkeys(REQUESTS, NO)
    | {"come_due": [], "close_gate": [], "cancel": [], "drain": [], "block": [], "delete": CampaignDeleted},
    "completed": dict.fromkeys(REQUESTS, NO)
    | {"come_due": [], "close_gate": [], "drain": [], "block": [], "retry": CampaignResumed, "delete": CampaignDeleted},
    "failed": dict.fromkeys(REQUESTS, NO)
    | {
        "come_due": [],
        "close_gate": [],
        "drain": [],
        "block": [],
        "retry": CampaignResumed,
        "resume": CampaignResumed,
        "delete": CampaignDeleted,
    },
    "deleted": dict.fromkeys(REQUESTS, NO) | {"come_due": [], "close_gate": [], "drain": [], "block": [], "delete": []},
}


def given(*decisions: Decide) -> Campaign:
    campaign = c.INITIAL
    for decide in decisions:
        for event in decide(campaign):
            campaign = c.evolve(campaign, event)
    return campaign


def test_the_table_has_every_state_and_every_request() -> None:
    assert TABLE.keys() == HISTORIES.keys()
    assert all(row.keys() == REQUESTS.keys() for row in TABLE.values())


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("status", HISTORIES)
def test_each_request_in_each_state(status: str, request_name: str) -> None:
    campaign, decide, expected = given(*HISTORIES[status]), REQUESTS[request_name], TABLE[status][request_name]
    assert campaign.status == status
    if expected == NO:
        with pytest.raises(Refused):
            decide(campaign)
    elif expected == []:
        assert decide(campaign) == []
    else:
        assert [type(event) for event in decide(campaign)] == [expected]


@pytest.mark.parametrize("request_name", ["edit", "schedule", "start", "pause", "resume", "cancel", "delete"])
def test_the_same_request_twice_writes_nothing_the_second_time(request_name: str) -> None:
    before = {"pause": "running", "resume": "paused", "cancel": "running", "delete": "paused"}.get(
        request_name, "draft"
    )
    decide = REQUESTS[request_name]
    assert decide(given(*HISTORIES[before], decide)) == []


def test_only_running_campaigns_can_be_paused_says_so() -> None:
    with pytest.raises(Refused, match=r"^Only running campaigns can be paused$"):
        pause(given(create))


def test_a_start_without_anything_names_what_is_missing() -> None:
    campaign = given(partial(c.create, definition=Definition(name="x"), by=None))
    with pytest.raises(Refused, match="an instance, messages, contacts"):
        c.start(campaign, audience=Audience(), by=None)


def test_due_for_another_time_than_the_scheduled_one_starts_nothing() -> None:
    campaign = given(create, schedule)
    assert c.come_due(campaign, scheduled_at=NINE - timedelta(seconds=1), audience=PEOPLE) == []


@pytest.mark.parametrize(("run_epoch", "planned"), [(2, 6), (1, 5), (1, 7), (0, 6)])
def test_drained_of_another_run_or_another_count_completes_nothing(run_epoch: int, planned: int) -> None:
    assert c.drain(given(create, start), run_epoch=run_epoch, planned=planned) == []


def test_a_gate_closed_for_an_older_run_pauses_nothing() -> None:
    campaign = given(create, start, pause, close_gate, resume, pause)
    assert campaign.run_epoch == 2
    assert c.close_gate(campaign, run_epoch=1) == []
    assert [type(event) for event in c.close_gate(campaign, run_epoch=2)] == [CampaignPaused]


def test_pausing_may_be_cancelled_and_ends_as_cancelled() -> None:
    assert given(create, start, pause, cancel, close_gate).status == "cancelled"


def test_retry_raises_the_run_epoch_and_asks_for_what_failed() -> None:
    (event,) = retry(given(create, start, drain))
    assert isinstance(event, CampaignResumed)
    assert (event.run_epoch, event.retry) == (2, "failed")


class AnyHistory(RuleBasedStateMachine):
    """People, the scheduler and the sender act in any order, with reports that come late, early and twice."""

    def __init__(self) -> None:
        super().__init__()
        self.state = c.INITIAL
        self.events: list[CampaignEvent] = []
        self.acknowledged: set[int] = set()

    def do(self, decide: Decide) -> None:
        try:
            events = decide(self.state)
        except Refused:
            return
        for event in events:
            self.state = c.evolve(self.state, event)
            self.events.append(event)
        assert len(events) <= 1

    @precondition(lambda self: not self.events)
    @rule()
    def created(self) -> None:
        self.do(create)

    @rule(name=st.sampled_from(sorted(REQUESTS)))
    def anything(self, name: str) -> None:
        self.do(REQUESTS[name])

    @rule(run_epoch=st.integers(0, 4))
    def gate_closed(self, run_epoch: int) -> None:
        self.do(partial(c.close_gate, run_epoch=run_epoch))

    @rule(run_epoch=st.integers(0, 4), planned=st.sampled_from([0, 3, 6]))
    def drained(self, run_epoch: int, planned: int) -> None:
        self.do(partial(c.drain, run_epoch=run_epoch, planned=planned))

    @invariant()
    def folding_the_events_gives_the_state(self) -> None:
        assert c.folded(self.events) == self.state

    @invariant()
    def run_epochs_never_fall_and_rise_by_one(self) -> None:
        epochs = [event.run_epoch for event in self.events]
        assert all(later - earlier in (0, 1) for earlier, later in itertools.pairwise(epochs))
        starts = [event for event in self.events if isinstance(event, CampaignStarted)]
        assert len(starts) <= 1

    @invariant()
    def paused_always_follows_pausing_and_nothing_runs_after_the_end(self) -> None:
        for earlier, later in zip(self.events, self.events[1:], strict=False):
            if isinstance(later, CampaignPaused):
                assert isinstance(earlier, CampaignPausing)
            if isinstance(earlier, CampaignCancelled | CampaignDeleted):
                assert isinstance(later, CampaignDeleted)

    @invariant()
    def completed_only_with_all_that_was_planned(self) -> None:
        if self.state.status == "completed":
            assert self.state.planned == PEOPLE.recipient_count * len(DEFINITION.steps)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
