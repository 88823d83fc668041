"""Credentials at rest: each record under its own key, that key wrapped by a key from the settings (AES-256-GCM)."""

import base64
import binascii
import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.settings import SecretsSettings

_FORMAT = "v1"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class UnreadableSecret(Exception):
    """The ciphertext is damaged, belongs to another account, instance or field, or its key id is not configured."""


class WrongKeys(ValueError):
    """The keys are not of the form kid:base64key[,kid2:…] with 32 bytes each."""


class SecretBox:
    """Ciphertext: v1.<key id>.<wrapped data key>.<sealed value>, each part base64url of nonce + AES-GCM output.

    The data key is random per record, so a random 96-bit nonce is used once per key.
    """

    def __init__(self, settings: SecretsSettings) -> None:
        self._keys = _read_keys(settings.keys.get_secret_value())
        self.current_key_id = next(iter(self._keys))

    def seal(self, plaintext: str, *, account_id: UUID, instance_id: UUID, field: str) -> str:
        bound = _associated(account_id, instance_id, field)
        data_key = os.urandom(_KEY_BYTES)
        return self._join(data_key, _encrypt(data_key, plaintext.encode(), bound), bound)

    def open(self, ciphertext: str, *, account_id: UUID, instance_id: UUID, field: str) -> str:
        """Raises UnreadableSecret."""
        bound = _associated(account_id, instance_id, field)
        data_key, sealed = self._unwrap(ciphertext, bound)
        return _decrypt(data_key, sealed, bound).decode()

    def rewrap(self, ciphertext: str, *, account_id: UUID, instance_id: UUID, field: str) -> str:
        """The same secret under the current key; unchanged if it is already. The value itself is not decrypted."""
        if self.key_id(ciphertext) == self.current_key_id:
            return ciphertext
        bound = _associated(account_id, instance_id, field)
        data_key, sealed = self._unwrap(ciphertext, bound)
        return self._join(data_key, sealed, bound)

    @staticmethod
    def key_id(ciphertext: str) -> str:
        """Under which key it is; to find what still needs `rewrap`. Raises UnreadableSecret."""
        return _split(ciphertext)[0]

    def _join(self, data_key: bytes, sealed: bytes, bound: bytes) -> str:
        key_id = self.current_key_id
        wrapped = _encrypt(self._keys[key_id], data_key, _wrapping(key_id, bound))
        return ".".join((_FORMAT, key_id, _to_text(wrapped), _to_text(sealed)))

    def _unwrap(self, ciphertext: str, bound: bytes) -> tuple[bytes, bytes]:
        key_id, wrapped, sealed = _split(ciphertext)
        if key_id not in self._keys:
            raise UnreadableSecret(f"key id {key_id!r} is not among the configured keys")
        return _decrypt(self._keys[key_id], wrapped, _wrapping(key_id, bound)), sealed


def _associated(account_id: UUID, instance_id: UUID, field: str) -> bytes:
    return f"{account_id}|{instance_id}|{field}".encode()


def _wrapping(key_id: str, bound: bytes) -> bytes:
    return key_id.encode() + b"|" + bound


def _split(ciphertext: str) -> tuple[str, bytes, bytes]:
    try:
        version, key_id, wrapped, sealed = ciphertext.split(".")
        if version != _FORMAT:
            raise UnreadableSecret(f"format {version!r} is not known")
        return key_id, _to_bytes(wrapped), _to_bytes(sealed)
    except (ValueError, binascii.Error):
        raise UnreadableSecret("not one of our ciphertexts") from None


def _encrypt(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def _decrypt(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise UnreadableSecret("damaged, or bound to another account, instance or field") from None


def _read_keys(text: str) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for entry in text.split(","):
        key_id, _, encoded = entry.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise WrongKeys(f"key {key_id!r} is not base64") from None
        if not key_id or "." in key_id or len(key) != _KEY_BYTES or key_id in keys:
            raise WrongKeys(f"key {key_id!r} needs a unique id without dots and {_KEY_BYTES} bytes")
        keys[key_id] = key
    return keys


def _to_text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _to_bytes(text: str) -> bytes:
    # Strict: the standard alphabet's decoder drops foreign characters, so one ciphertext would have many spellings.
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
