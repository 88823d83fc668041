"""A spreadsheet as people send it: accents, semicolons, bad rows, the same person twice, numbers in every spelling.

Pure: the same count and seed give the same file.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

ENCODING = "cp1252"  # what Brazilian spreadsheet programs save
HEADER = ("Código", "Nome", "Celular", "Cidade", "Cupom")
# fmt: off
FIRST_NAMES = (
    "Ana", "José", "João", "Antônia", "Conceição", "Luís", "Márcia", "Inês", "Sebastião", "Patrícia",
    "Zuleica", "Otávio", "Thaís", "Cauã", "Lívia", "Íris", "Raúl", "Estêvão", "Mônica", "Débora",
    "Ângelo", "Vitória", "Beatriz", "Caio", "Dandara", "Enzo", "Fátima", "Gonçalo", "Heloísa", "Iara",
)
# fmt: on
# fmt: off
LAST_NAMES = (
    "Silva", "Souza", "Gonçalves", "Araújo", "Magalhães", "Conceição", "Muñoz", "Brandão", "Assunção", "Guimarães",
    "Leão", "Simões", "Damião", "Falcão", "Paixão", "Pereira", "Nóbrega", "Vilaça", "Sá", "Antão",
)
# fmt: on
CITIES = {
    "11": "São Paulo",
    "21": "Niterói",
    "27": "Vitória",
    "31": "Belo Horizonte",
    "41": "Curitiba",
    "48": "Florianópolis",
    "51": "Canoas",
    "61": "Brasília",
    "62": "Goiânia",
    "71": "Salvador",
    "81": "Olinda",
    "85": "Fortaleza",
    "91": "Belém",
    "98": "São Luís",
}  # fmt: skip
BAD_PHONES = ("", "sem telefone", "123", "5,511987E+12", "11 98765", "desconhecido", "+55 11 9")
BAD_SHARE, DUPLICATE_SHARE = 0.02, 0.03
# Test cards of the simulator: how a person's phone behaves. What never ends well is left out (06 ends as unresolved).
CARDS = (
    "01",
    "02",
    "05",
    "06",
    "07",
    "08",
    "10",
    "11",
    "12",
    "16",
    "17",
    "18",
    "22",
    "23",
    "24",
    "26",
    "27",
    "33",
    "34",
)
CARD_EVERY = 20


@dataclass(frozen=True, slots=True)
class Spreadsheet:
    """`people`: how many different ones can be sent to; `rejected`: rows that cannot be taken."""

    content: bytes
    people: int
    rows: int
    bad_rows: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class _Person:
    area: str
    local: str  # the eight digits that all spellings share
    name: str

    @property
    def city(self) -> str:
        return CITIES[self.area]


def make_spreadsheet(people: int, seed: int) -> Spreadsheet:
    """`people` different people, and beside them bad rows and repetitions in other spellings."""
    chance = random.Random(seed)
    persons = list(_persons(people, chance))
    rows: list[tuple[str, ...]] = []
    bad = duplicates = 0
    for index, person in enumerate(persons):
        rows.append(_row(index, person, chance))
        if chance.random() < BAD_SHARE:
            bad += 1
            rows.append((f"X{bad}", _name(chance), chance.choice(BAD_PHONES), "Lugar nenhum", ""))
        if index and chance.random() < DUPLICATE_SHARE:
            duplicates += 1
            rows.append(_row(index, persons[chance.randrange(index)], chance))
    text = "\r\n".join(";".join(_quoted(cell) for cell in row) for row in (HEADER, *rows)) + "\r\n"
    return Spreadsheet(text.encode(ENCODING), people, len(rows), bad, duplicates)


def _persons(count: int, chance: random.Random) -> Iterator[_Person]:
    areas = sorted(CITIES)
    cards = _card_numbers(areas, chance)
    taken: set[tuple[str, str]] = set()
    for index in range(count):
        area, local = next(cards) if index % CARD_EVERY == CARD_EVERY // 2 else ("", "")
        while not local or (area, local) in taken:
            area, local = chance.choice(areas), f"{chance.choice('6789')}{chance.randrange(10**7):07d}"
            if local.startswith("996600"):
                local = ""
        taken.add((area, local))
        yield _Person(area, local, _name(chance))


def _card_numbers(areas: list[str], chance: random.Random) -> Iterator[tuple[str, str]]:
    """Each card once in each area, then no more of them."""
    found = [(area, f"996600{card}") for area in areas for card in CARDS]
    # The first round has every card, so that also a small run meets each of them.
    first = [(chance.choice(areas), f"996600{card}") for card in CARDS]
    chance.shuffle(first)
    rest = [number for number in found if number not in first]
    chance.shuffle(rest)
    yield from first
    yield from rest
    while True:
        yield "", ""


def _row(index: int, person: _Person, chance: random.Random) -> tuple[str, ...]:
    coupon = "" if chance.random() < 0.1 else f"AURA{chance.randrange(100, 1000)}"
    return (f"C{index + 1:05d}", person.name, _spelled(person, chance), person.city, coupon)


def _name(chance: random.Random) -> str:
    return f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}"


def _spelled(person: _Person, chance: random.Random) -> str:
    """With and without country code, ninth digit, zero, brackets and hyphen."""
    area, local = person.area, person.local
    nine = chance.random() < 0.75
    digits = f"9{local}" if nine else local
    return chance.choice(
        (
            f"+55 {area} {digits[:-4]}-{digits[-4:]}",
            f"({area}) {digits[:-4]}-{digits[-4:]}",
            f"55{area}{digits}",
            f"{area}{digits}",
            f"0{area} {digits}",
        )
    )


def _quoted(cell: str) -> str:
    return f'"{cell}"' if ";" in cell or '"' in cell or "\n" in cell else cell
