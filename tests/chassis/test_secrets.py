"""chassis.secrets: what was sealed opens for the same account, instance and field only, under any configured key."""

import base64
import os
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from chassis.secrets import SecretBox, UnreadableSecret, WrongKeys
from chassis.settings import SecretsSettings

OLD = "old:" + base64.b64encode(b"o" * 32).decode()
NEW = "new:" + base64.b64encode(b"n" * 32).decode()
ACCOUNT, INSTANCE = UUID(int=1), UUID(int=2)


def box(*keys: str) -> SecretBox:
    return SecretBox(SecretsSettings(keys=SecretStr(",".join(keys))))


def seal(sealing: SecretBox, plaintext: str = "s3cret") -> str:
    return sealing.seal(plaintext, account_id=ACCOUNT, instance_id=INSTANCE, field="token")


def unseal(opening: SecretBox, ciphertext: str) -> str:
    return opening.open(ciphertext, account_id=ACCOUNT, instance_id=INSTANCE, field="token")


@given(st.text())
def test_what_was_sealed_opens(plaintext: str) -> None:
    assert unseal(box(NEW), seal(box(NEW), plaintext)) == plaintext


def test_the_same_secret_never_looks_the_same() -> None:
    assert len({seal(box(NEW)) for _ in range(200)}) == 200


@pytest.mark.parametrize(
    ("account_id", "instance_id", "field"),
    [(uuid4(), INSTANCE, "token"), (ACCOUNT, uuid4(), "token"), (ACCOUNT, INSTANCE, "other")],
)
def test_it_opens_in_its_own_place_only(account_id: UUID, instance_id: UUID, field: str) -> None:
    with pytest.raises(UnreadableSecret):
        box(NEW).open(seal(box(NEW)), account_id=account_id, instance_id=instance_id, field=field)


def test_it_opens_with_its_own_key_only() -> None:
    other = "new:" + base64.b64encode(os.urandom(32)).decode()
    with pytest.raises(UnreadableSecret):
        unseal(box(other), seal(box(NEW)))
    with pytest.raises(UnreadableSecret, match="'new'"):
        unseal(box(OLD), seal(box(NEW)))


def test_every_changed_character_is_noticed() -> None:
    ciphertext = seal(box(NEW))
    for place in range(len(ciphertext)):
        swapped = "A" if ciphertext[place] != "A" else "B"
        changed = ciphertext[:place] + swapped + ciphertext[place + 1 :]
        if _bytes_of(changed) != _bytes_of(ciphertext):
            with pytest.raises(UnreadableSecret):
                unseal(box(NEW), changed)


@pytest.mark.parametrize("text", ["", "plain", "v1.new.x", "v2.new.AAAA.AAAA", "v1.new..", "v1.new.é.é", "v1.new.A.A"])
def test_what_is_no_ciphertext_is_told(text: str) -> None:
    with pytest.raises(UnreadableSecret):
        unseal(box(NEW), text)


def test_rotation_rewraps_and_afterwards_the_old_key_is_not_needed() -> None:
    ciphertext = seal(box(OLD))
    both = box(NEW, OLD)
    assert unseal(both, ciphertext) == "s3cret"
    rewrapped = both.rewrap(ciphertext, account_id=ACCOUNT, instance_id=INSTANCE, field="token")
    assert SecretBox.key_id(rewrapped) == "new"
    assert unseal(box(NEW), rewrapped) == "s3cret"
    assert both.rewrap(rewrapped, account_id=ACCOUNT, instance_id=INSTANCE, field="token") == rewrapped


def test_rewrapping_does_not_move_a_secret_to_another_place() -> None:
    with pytest.raises(UnreadableSecret):
        box(NEW, OLD).rewrap(seal(box(OLD)), account_id=uuid4(), instance_id=INSTANCE, field="token")


@pytest.mark.parametrize(
    "keys", ["", "k", "k:short", "k:" + base64.b64encode(b"x" * 16).decode(), f"{NEW},{NEW}", "a.b" + NEW]
)
def test_wrong_keys_stop_the_start_without_being_told(keys: str) -> None:
    with pytest.raises(WrongKeys) as told:
        box(keys)
    assert base64.b64encode(b"n" * 32).decode() not in str(told.value)


def _bytes_of(ciphertext: str) -> list[object]:
    """The last base64 character holds unused bits."""
    *head, wrapped, sealed = ciphertext.split(".")
    return [head, *(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (wrapped, sealed))]
