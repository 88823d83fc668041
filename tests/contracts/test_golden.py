"""A record that was ever published can still be read, and readers of today's records find what they know."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import create_model

import golden
from contracts.campaigns import CampaignFailed, CampaignScheduled
from contracts.codec import Undecodable, decode
from contracts.contacts import ContactOptedOut
from contracts.envelope import Event
from contracts.statuses import StatusReceived
from contracts.topics import EVENT_TYPES
from contracts.upcasting import UPCASTERS


def test_every_golden_file_is_read_by_the_current_code() -> None:
    assert golden.breaks(golden.FOLDER, EVENT_TYPES) == []


def test_every_event_writes_what_its_newest_golden_file_shows() -> None:
    add = "run `python tests/support/golden.py`, which adds them; never edit one that is there"
    assert [str(path) for path, _ in golden.missing(golden.FOLDER)] == [], add


@pytest.mark.parametrize("kind", ["", "-required"])
@pytest.mark.parametrize("name", EVENT_TYPES)
def test_the_newest_golden_file_reads_as_the_example(name: str, kind: str) -> None:
    version, content = golden.committed(golden.FOLDER, name, kind)[-1]
    example = golden.example(EVENT_TYPES[name], complete=kind == "")
    assert decode(name, version, json.dumps(content).encode()) == example


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_a_record_with_nothing_but_the_required_fields_is_read(name: str) -> None:
    event_type = EVENT_TYPES[name]
    _, content = golden.committed(golden.FOLDER, name, "-required")[-1]
    bare = {field: content[field] for field, info in event_type.model_fields.items() if info.is_required()}
    example = golden.example(event_type, complete=False)
    assert decode(name, event_type.VERSION, json.dumps(bare).encode()) == example


def test_what_a_newer_version_adds_is_ignored_at_any_depth() -> None:
    _, content = golden.committed(golden.FOLDER, "CampaignStarted", "")[-1]
    newer = {**content, "added": 1, "definition": {**content["definition"], "added": {"x": 1}}}
    newer["definition"]["steps"] = [{**step, "added": True} for step in content["definition"]["steps"]]
    assert decode("CampaignStarted", 1, json.dumps(newer).encode()) == decode(
        "CampaignStarted", 1, json.dumps(content).encode()
    )


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_a_time_without_its_offset_is_refused(name: str) -> None:
    """Another service would read it in another zone."""
    _, content = golden.committed(golden.FOLDER, name, "")[-1]
    naive = re.sub(r"(T\d\d:\d\d:\d\d(\.\d+)?)Z", r"\1", json.dumps(content))
    if naive != json.dumps(content):
        with pytest.raises(Undecodable):
            decode(name, 1, naive.encode())


def test_every_older_version_has_its_upcaster() -> None:
    for name, event_type in EVENT_TYPES.items():
        for version in range(1, event_type.VERSION):
            assert (name, version) in UPCASTERS


def test_no_golden_file_was_edited_or_removed_since_it_was_committed() -> None:
    """In the working tree against every commit before; a checkout without history proves nothing and passes."""
    folder = golden.FOLDER.relative_to(golden.FOLDER.parents[1])
    command = ["git", "log", "--format=", "--name-status", "--diff-filter=MDR", "HEAD", "--", str(folder)]
    changed = subprocess.run(command, cwd=golden.FOLDER.parents[1], capture_output=True, text=True, check=False)
    assert changed.stdout.strip() == ""
    command = ["git", "diff", "--name-status", "--diff-filter=MDR", "HEAD", "--", str(folder)]
    changed = subprocess.run(command, cwd=golden.FOLDER.parents[1], capture_output=True, text=True, check=False)
    assert changed.stdout.strip() == ""


class TestPlantedBreaks:
    """A check that has never failed proves nothing."""

    def test_a_renamed_field(self) -> None:
        renamed = _with(CampaignScheduled, drop="scheduled_at", starts_at=(str, ...))
        assert _complaints(CampaignScheduled, renamed)

    def test_a_renamed_field_with_a_default(self) -> None:
        renamed = _with(CampaignFailed, drop="detail", details=(str, ""))
        assert "CampaignFailed.detail v1 is no longer read" in _complaints(CampaignFailed, renamed)

    def test_a_removed_field(self) -> None:
        removed = _with(StatusReceived, drop="client_ref")
        assert "StatusReceived.client_ref v1 is no longer read" in _complaints(StatusReceived, removed)

    def test_a_new_required_field(self) -> None:
        assert _complaints(CampaignScheduled, _with(CampaignScheduled, room=(str, ...)))

    def test_a_narrowed_type(self) -> None:
        assert _complaints(StatusReceived, _with(StatusReceived, provider_message_id=(int, ...)))

    def test_an_optional_field_made_required(self) -> None:
        assert _complaints(StatusReceived, _with(StatusReceived, client_ref=(str, ...)))

    def test_a_value_taken_out_of_a_closed_list(self) -> None:
        fewer = Literal["stop_word", "provider"]
        assert _complaints(ContactOptedOut, _with(ContactOptedOut, reason=(fewer, ...)))

    def test_a_removed_type(self) -> None:
        types = {name: event_type for name, event_type in EVENT_TYPES.items() if name != "CampaignFailed"}
        assert golden.breaks(golden.FOLDER, types)

    def test_a_new_version_without_an_upcaster(self) -> None:
        newer = _with(CampaignFailed)
        newer.VERSION = 2
        assert _complaints(CampaignFailed, newer)

    def test_an_added_optional_field_is_no_break(self) -> None:
        assert _complaints(CampaignFailed, _with(CampaignFailed, room=(str, "none"))) == []

    def test_a_value_added_to_a_closed_list_is_no_break(self) -> None:
        more = Literal["stop_word", "manual", "provider", "law"]
        assert _complaints(ContactOptedOut, _with(ContactOptedOut, reason=(more, ...))) == []


def test_an_addition_gets_a_file_of_its_own_and_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    shutil.copytree(golden.FOLDER, folder)
    oldest = folder / "CampaignFailed" / "v1.json"
    content = json.loads(oldest.read_text())
    del content["detail"]  # as if it had been added later
    oldest.write_text(json.dumps(content))
    for newer in (folder / "CampaignFailed").glob("v1.*.json"):
        newer.unlink()
    assert [path.name for path, _ in golden.missing(folder)] == ["v1.1.json"]
    assert golden.breaks(folder, EVENT_TYPES) == []


def _with(event_type: type[Event], drop: str = "", **fields: Any) -> type[Event]:
    """The event with fields changed, of the same name."""
    kept = {name: (info.annotation, info) for name, info in event_type.model_fields.items() if name != drop}
    changed: type[Event] = create_model(event_type.__name__, __base__=Event, **{**kept, **fields})
    return changed


def _complaints(event_type: type[Event], changed: type[Event]) -> list[str]:
    return golden.breaks(golden.FOLDER, {**EVENT_TYPES, event_type.__name__: changed})
