"""What the routes of uploads and imports take and give."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Column = Annotated[int, Field(ge=0, le=1000)] | Annotated[str, Field(min_length=1, max_length=200)] | None


class ColumnMapping(BaseModel):
    """Columns by index (from 0) or by name; what is left out is found by itself, null means there is none."""

    model_config = ConfigDict(extra="forbid")

    id: Column = None
    phone: Column = None
    name: Column = None
    header: bool | None = None
    delimiter: Literal[";", ",", "\t", "|"] | None = None
    encoding: Literal["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"] | None = None

    def options(self, country: str) -> dict[str, object]:
        """For the reader's process."""
        roles = {role: getattr(self, role) for role in ("id", "phone", "name") if role in self.model_fields_set}
        if roles.get("phone", 0) is None:
            del roles["phone"]
        return {
            "mapping": roles,
            "header": self.header,
            "delimiter": self.delimiter,
            "encoding": self.encoding,
            "country": country,
        }


class DetectedMapping(BaseModel):
    id: int | None
    phone: int
    name: int | None


class Preview(BaseModel):
    """How the file would be read: its first rows, and which column is which."""

    format: Literal["csv", "xlsx"]
    delimiter: str | None
    encoding: str | None
    header: bool
    columns: list[str]
    mapping: DetectedMapping
    rows: list[list[str]]


class Upload(BaseModel):
    id: UUID
    file_name: str
    size_bytes: int
    created_at: datetime
    expires_at: datetime
    preview: Preview | None = None


class NewImport(BaseModel):
    """Takes an uploaded file's rows into the account's contacts."""

    model_config = ConfigDict(extra="forbid")

    upload_id: UUID
    column_mapping: ColumnMapping = ColumnMapping()
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=50)] = []
    source: Annotated[str, Field(min_length=1, max_length=100)] = "import"


class Import(BaseModel):
    id: UUID
    kind: Literal["contacts", "campaign"]
    upload_id: UUID | None
    state: Literal["waiting", "running", "completed", "failed"]
    accepted: int
    rejected: int
    error: str | None
    created_at: datetime
    finished_at: datetime | None


class RejectedRow(BaseModel):
    """`row` as the spreadsheet numbers it, the header included."""

    row: int
    reason: str
    cells: list[str]
