"""Who replied: a table of cases, no database."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from projection_histories import START
from projections.campaign.replies import CampaignSend, find_replies


def send(after_h: float, number: int = 1) -> CampaignSend:
    return CampaignSend(START + timedelta(hours=after_h), UUID(int=number), UUID(int=number))


def at(after_h: float) -> datetime:
    return START + timedelta(hours=after_h)


FIRST, SECOND = send(0, 1), send(10, 2)


@pytest.mark.parametrize(
    ("sends", "inbound", "replied"),
    [
        ([FIRST], [], {FIRST: None}),
        ([FIRST], [at(1), at(2)], {FIRST: at(1)}),
        ([FIRST], [at(2), at(1)], {FIRST: at(1)}),
        ([FIRST], [at(72)], {FIRST: at(72)}),
        ([FIRST], [at(72.01)], {FIRST: None}),
        ([FIRST], [at(-1)], {FIRST: None}),
        ([FIRST, SECOND], [at(11)], {FIRST: None, SECOND: at(11)}),
        ([FIRST, SECOND], [at(9), at(11)], {FIRST: at(9), SECOND: at(11)}),
        ([SECOND, FIRST], [at(75)], {FIRST: None, SECOND: at(75)}),
    ],
)
def test_the_first_inbound_within_72_hours_of_the_latest_send(
    sends: list[CampaignSend], inbound: list[datetime], replied: dict[CampaignSend, datetime | None]
) -> None:
    assert find_replies(sends, inbound) == replied
