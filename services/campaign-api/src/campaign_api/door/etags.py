"""ETag and If-Match: the stream's version, so that nobody overwrites what they have not seen."""

from typing import Annotated

from fastapi import Header

from campaign_api.door.problems import Problem

IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=100)]


def of(version: int) -> str:
    return f'"v{version}"'


def read(if_match: str | None) -> int | None:
    """None where anything may be changed. Raises Problem 412 for what cannot be one of ours."""
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip()
    if text.startswith('"v') and text.endswith('"') and text[2:-1].isdigit():
        return int(text[2:-1])
    raise Problem(412, "It was changed since you read it: read it again")
