"""What routes work with, made once by app.build and handed over through the application."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Depends, Request

from campaign_api.campaign.paces import Paces
from campaign_api.explanation.forecasts import Forecasts
from campaign_api.identity.passwords import Passwords
from campaign_api.identity.tokens import TokenKeys
from campaign_api.live.feed import Feed
from campaign_api.settings import Settings
from chassis.database import Database
from chassis.secrets import SecretBox


@dataclass(frozen=True, slots=True)
class Parts:
    """`web`: the role that row-level security binds. `worker`: for what happens before anybody is known."""

    settings: Settings
    web: Database
    worker: Database
    secrets: SecretBox
    passwords: Passwords
    tokens: TokenKeys
    feed: Feed
    forecasts: Forecasts
    paces: Paces
    now: Callable[[], datetime]
    stopping: asyncio.Event
    readers: asyncio.Semaphore  # uploaded files that are read at the same time


# Asynchronous: FastAPI gives a plain function to a thread, and each request would wait for that.
async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


Here = Annotated[Parts, Depends(_parts)]


async def _new_id(request: Request) -> UUID:
    derived = request.scope.get("derived_id")
    return derived if isinstance(derived, UUID) else uuid4()


# The id of what this request creates: derived from its Idempotency-Key, so that a repetition finds it made already.
NewId = Annotated[UUID, Depends(_new_id)]
