"""Passwords: argon2id off the event loop, a few at a time, and as slow for people that do not exist."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

LENGTH_MIN = 10
LENGTH_MAX = 256
AT_ONCE_MAX = 2  # 19 ms of CPU and 19 MiB each


class Passwords:
    """One per process: the slots bound what sign-ins cost everybody else."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._nobody = self._hasher.hash("a password that nobody has")

    async def hash(self, password: str) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """`stored` None: a person that does not exist; takes the same time and answers False."""
        async with self._slots:
            fits = await asyncio.to_thread(self._fits, stored or self._nobody, password)
        return fits and stored is not None

    def needs_rehash(self, stored: str) -> bool:
        return self._hasher.check_needs_rehash(stored)

    def _fits(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False
