"""A campaign's row as its routes answer it."""

from collections.abc import Sequence

from asyncpg import Record

from campaign_api.campaign import store
from campaign_api.campaign.models import AudienceReport, Campaign, policy_shown, steps_shown


def shown(
    row: Record,
    figures: Record | None = None,
    audience: Record | None = None,
    warnings: Sequence[str] = (),
) -> Campaign:
    definition = store.definition_of(row)
    return Campaign(
        id=row["id"],
        name=row["name"],
        status=row["status"],
        state=row["status"],
        user_id=row["owner_id"],
        api_config_id=definition.pool[0] if definition.pool else None,
        instance_pool=list(definition.pool),
        google_sheets_url=definition.google_sheets_url,
        sheet_id_column=definition.sheet_id_column,
        messages=steps_shown(definition),
        sending_configuration=policy_shown(definition.policy),
        total_recipients=row["recipient_count"],
        total_contacts=row["recipient_count"],
        run_epoch=row["run_epoch"],
        failure_reason=row["failure"],
        failure_detail=row["failure_detail"],
        scheduled_at=row["scheduled_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        sent_count=figures["sent_count"] if figures else 0,
        failed_count=figures["failed_count"] if figures else 0,
        audience=AudienceReport(
            total_contacts=audience["recipient_count"],
            rejected=audience["rejected"],
            duplicates=audience["duplicates"],
            opted_out=audience["opted_out"],
        )
        if audience
        else None,
        warnings=list(warnings),
    )
