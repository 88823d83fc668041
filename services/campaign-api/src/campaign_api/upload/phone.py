"""Phone numbers as people write them, made E.164 digits. Pure."""

import re

import phonenumbers

# https://www.gov.br/anatel: the 67 area codes in use
_AREA_CODES = frozenset(
    [
        "11",
        "12",
        "13",
        "14",
        "15",
        "16",
        "17",
        "18",
        "19",
        "21",
        "22",
        "24",
        "27",
        "28",
        "31",
        "32",
        "33",
        "34",
        "35",
        "37",
        "38",
        "41",
        "42",
        "43",
        "44",
        "45",
        "46",
        "47",
        "48",
        "49",
        "51",
        "53",
        "54",
        "55",
        "61",
        "62",
        "63",
        "64",
        "65",
        "66",
        "67",
        "68",
        "69",
        "71",
        "73",
        "74",
        "75",
        "77",
        "79",
        "81",
        "82",
        "83",
        "84",
        "85",
        "86",
        "87",
        "88",
        "89",
        "91",
        "92",
        "93",
        "94",
        "95",
        "96",
        "97",
        "98",
        "99",
    ]
)
_WRITTEN = re.compile(r"\+?[\d\s().\-/ ​‎‪‬]+\Z")
_NOT_DIGITS = re.compile(r"\D")
_SCIENTIFIC = re.compile(r"\d[.,]?\d*[eE]\+?\d+\Z")
_DIGITS_MAX = 15


class NoPhone(ValueError):
    """The text is no phone number; the message says what is wrong with it."""


def normalise(text: str, country: str = "BR") -> str:
    """E.164 digits without '+'. A Brazilian number keeps its ninth digit or its lack of it. Raises NoPhone."""
    written = text.strip()
    if not written:
        raise NoPhone("phone is empty")
    if _SCIENTIFIC.match(written):
        raise NoPhone("phone was shortened to scientific notation by a spreadsheet: format the column as text")
    if not _WRITTEN.match(written):
        raise NoPhone("phone contains other characters than digits")
    digits = _NOT_DIGITS.sub("", written)
    international = written.startswith("+")
    if digits.startswith("00"):
        digits, international = digits[2:], True
    if not digits or len(digits) > _DIGITS_MAX + 2:
        raise NoPhone("phone has too many or too few digits")
    if country == "BR" and (brazilian := _brazilian(digits, international)) is not None:
        return brazilian
    return _elsewhere(digits, international, country)


def _brazilian(digits: str, international: bool) -> str | None:
    """None where the digits are not a Brazilian number. Takes 0 and 0 + carrier code before the area code."""
    if digits.startswith("55") and len(digits) in (12, 13) and _subscriber(digits[2:]):
        return digits
    if international:
        return None
    if digits.startswith("0"):
        for skipped in (1, 3):
            if _subscriber(digits[skipped:]):
                return "55" + digits[skipped:]
        return None
    return "55" + digits if _subscriber(digits) else None


def _subscriber(digits: str) -> bool:
    """Area code and 8 digits, or 9 digits that begin with 9."""
    if digits[:2] not in _AREA_CODES:
        return False
    return (len(digits) == 11 and digits[2] == "9") or (len(digits) == 10 and digits[2] in "23456789")


def _elsewhere(digits: str, international: bool, country: str) -> str:
    attempts = [("+" + digits, None)] if international else [(digits, country), ("+" + digits, None)]
    for written, region in attempts:
        try:
            number = phonenumbers.parse(written, region)
        except phonenumbers.NumberParseException:
            continue
        valid = phonenumbers.is_possible_number(number) if international else phonenumbers.is_valid_number(number)
        if valid and number.country_code is not None and not (number.country_code == 55 and country == "BR"):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]
    raise NoPhone("phone is not a number that can exist")
