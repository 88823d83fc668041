"""Which dispatch each send belongs to: by our label where the provider carries one, else by person and text."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from contracts.ids import read_attempt_label
from pombo.audit.promises import Recipient, by_dispatch
from pombo.audit.witness import Send


@dataclass(frozen=True, slots=True)
class Deliveries:
    """`sends`: those of each dispatch, in order of arrival. `strange`: sends that belong to none."""

    sends: Mapping[UUID, tuple[Send, ...]]
    strange: tuple[Send, ...]

    def of(self, dispatch: UUID) -> tuple[Send, ...]:
        return self.sends.get(dispatch, ())


def assign(sends: Iterable[Send], recipients: Iterable[Recipient]) -> Deliveries:
    """A label must also fit the person and the text; one that does not makes the send strange."""
    listed = tuple(recipients)
    dispatches = by_dispatch(listed)
    texts = {
        (recipient.person, sha): recipient.dispatches[step]
        for recipient in listed
        for step, sha in enumerate(recipient.text_shas)
    }
    assigned: dict[UUID, list[Send]] = defaultdict(list)
    strange: list[Send] = []
    for send in sends:
        dispatch = texts.get((send.person, send.text_sha))
        label = read_attempt_label(send.label) if send.label else None
        if label is not None:
            dispatch = label[0] if label[0] == dispatch and label[0] in dispatches else None
        if dispatch is None:
            strange.append(send)
        else:
            assigned[dispatch].append(send)
    return Deliveries({dispatch: tuple(found) for dispatch, found in assigned.items()}, tuple(strange))
