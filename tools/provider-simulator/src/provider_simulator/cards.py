"""Test cards: phones with a fixed outcome, like a card processor's test numbers. Pure.

A card is a Brazilian phone whose last eight digits are 996600NN, with or without the ninth digit;
any area code will do. NN is the card.
"""

from dataclasses import dataclass

from provider_simulator.faults import Break, Fate, Garble, Reject, Silence, Throttle


@dataclass(frozen=True, slots=True)
class Card:
    """One fixed outcome. `fate` None: accepted. `statuses` None: as the number's behaviour says."""

    meaning: str
    fate: Fate | None = None
    first_only: bool = False  # the fate holds for the first request of the person only
    statuses: tuple[str, ...] | None = None
    failed_code: int | None = None
    reply: str | None = None
    answer_after_s: float = 0.0  # real seconds
    status_after_s: float = 0.0  # added before the first status, time-scaled
    copies: int = 1  # of each webhook
    lost: bool = False  # no webhook comes
    early: bool = False  # statuses are posted before the answer is written
    bsuid: bool = False  # writes without a phone number (Meta)
    missing: bool = False  # not on WhatsApp: what each provider says to that


ALL = ("sent", "delivered", "read")
CARDS: dict[str, Card] = {
    "00": Card("accepted, sent, delivered, read", statuses=ALL),
    "01": Card("not on WhatsApp: refused at once", fate=Reject(131026), missing=True),
    "02": Card("accepted, then failed 131026 (undeliverable)", statuses=(), failed_code=131026),
    "03": Card("accepted, then failed 131049 (marketing cap of the person)", statuses=(), failed_code=131049),
    "04": Card("accepted, then failed 131050 (stopped marketing)", statuses=(), failed_code=131050),
    "05": Card("accepted, then failed 130472 (experiment)", statuses=(), failed_code=130472),
    "06": Card("always times out: not accepted, never answered", fate=Silence(False, "hang")),
    "07": Card("lost answer: accepted, never answered", fate=Silence(True, "hang"), statuses=ALL),
    "08": Card("lost answer: accepted, connection reset", fate=Silence(True, "reset"), statuses=ALL),
    "09": Card("slow: answered after 8 s", answer_after_s=8.0, statuses=ALL),
    "10": Card("never delivered: sent only", statuses=("sent",)),
    "11": Card("delivered, never read", statuses=("sent", "delivered")),
    "12": Card("read without delivered", statuses=("sent", "read")),
    "13": Card("reads and answers SAIR", statuses=ALL, reply="SAIR"),
    "14": Card("reads and answers 'Quero saber mais'", statuses=ALL, reply="Quero saber mais"),
    "15": Card("503 with a readable transient error, not accepted", fate=Break(False, True)),
    "16": Card("500 without a readable error, not accepted", fate=Break(False, False)),
    "17": Card("500 without a readable error, although accepted", fate=Break(True, False), statuses=ALL),
    "18": Card("throttled the first time, then accepted", fate=Throttle(), first_only=True, statuses=ALL),
    "19": Card("always throttled (130429)", fate=Throttle()),
    "20": Card("always over the pair rate (131056)", fate=Throttle(131056)),
    "21": Card("24-hour window closed (131047)", fate=Reject(131047)),
    "22": Card("every webhook comes three times", statuses=ALL, copies=3),
    "23": Card("statuses in reverse order", statuses=("read", "delivered", "sent")),
    "24": Card("statuses come before the answer (after 2 s)", statuses=ALL, early=True, answer_after_s=2.0),
    "25": Card("statuses come 60 s late (time-scaled)", statuses=ALL, status_after_s=60.0),
    "26": Card("read, but every webhook is lost", statuses=ALL, lost=True),
    "27": Card("500 with 131000, although accepted", fate=Break(True, True, 131000), statuses=ALL),
    "28": Card("spam limit (131048)", fate=Reject(131048)),
    "29": Card("accepted, then failed after delivered", statuses=("sent", "delivered"), failed_code=131026),
    "30": Card("answers as a person without a phone number", statuses=ALL, reply="Oi", bsuid=True),
    "31": Card("media failed (131053), after acceptance", statuses=(), failed_code=131053),
    "32": Card("connection reset, not accepted", fate=Silence(False, "reset")),
    "33": Card("accepted, answered with a body that is not JSON", fate=Garble(), statuses=ALL),
    "34": Card("503 the first time, then accepted", fate=Break(False, True), first_only=True, statuses=ALL),
}


def card_of(person: str) -> Card | None:
    """The card of a person's key (55 + area code + last eight digits), if it is one."""
    if len(person) >= 8 and person[-8:-2] == "996600":
        return CARDS.get(person[-2:])
    return None
