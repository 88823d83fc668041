"""What can be set for projections, with unit and default."""

from pydantic import Field

from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """`batch_max` records and `linger_ms` bound a batch: later notices and figures, but less work for each."""

    batch_max: int = Field(2000, ge=1, description="records in one transaction")
    linger_ms: int = Field(250, ge=0, description="milliseconds between two batches under load")
    notice_ms: int = Field(300, ge=50, description="milliseconds between two notices about one campaign")
