"""Names of people and places as providers write them. Aliases are kept side by side, never merged here."""

from typing import Final, NamedTuple


class Address(NamedTuple):
    """Every name by which a provider knows one person or place; a set of aliases, never merged here.

    `phone` digits as the provider wrote them; `lid` with its suffix; `bsuid` like BR.1349…; the last three are
    places, not people.
    """

    phone: str | None = None
    lid: str | None = None
    bsuid: str | None = None
    group: str | None = None
    newsletter: str | None = None
    broadcast: str | None = None

    def __bool__(self) -> bool:
        return bool(self.phone or self.lid or self.bsuid or self.group or self.newsletter or self.broadcast)


NOBODY: Final = Address()


def read_jid(jid: object) -> Address:
    """An address of WhatsApp Web: user, lid, group, channel or list; the device part is dropped."""
    if not isinstance(jid, str):
        return NOBODY
    user, at, server = jid.partition("@")
    if not at:
        return Address(phone=user or None)
    user = user.partition(":")[0]
    if not user:
        return NOBODY
    match server:
        case "s.whatsapp.net" | "c.us":
            return Address(phone=user)
        case "lid" | "hosted.lid":
            return Address(lid=f"{user}@lid")
        case "g.us":
            return Address(group=jid)
        case "newsletter":
            return Address(newsletter=jid)
        case "broadcast":
            return Address(broadcast=jid)
        case _:
            return NOBODY


def join_addresses(*addresses: Address) -> Address:
    """All names of the same one together; the first of each kind wins."""
    phone = lid = bsuid = group = newsletter = broadcast = None
    for address in addresses:
        phone = phone or address.phone
        lid = lid or address.lid
        bsuid = bsuid or address.bsuid
        group = group or address.group
        newsletter = newsletter or address.newsletter
        broadcast = broadcast or address.broadcast
    return Address(phone, lid, bsuid, group, newsletter, broadcast)


def same_number(one: str | None, other: str | None) -> bool:
    """Whether two phone numbers are one person's: Brazilian ones match on 55, area code and last eight digits."""
    if not one or not other:
        return False
    return one == other or _brazilian_key(one) == _brazilian_key(other)


def _brazilian_key(phone: str) -> str:
    if phone.startswith("55") and len(phone) in (12, 13):
        return phone[:4] + phone[-8:]
    return phone
