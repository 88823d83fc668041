"""One row per dispatch: the scheduler's latest word (highest version) and the evidence of its messages beside it."""
# ruff: noqa: S608  the statements are made of constants of this file

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from projections.campaign.volume import count_moved, quarter
from projections.campaign.words import PLACE_ENDS, Words, only_changed
from projections.conversation.messages import DELIVERED, READ
from projections.folding import in_order, run

# A failure counts only if nothing ≥ delivered is known; what was only seen in messages is still pending. Of a row `d`.
EFFECTIVE_STATE: Final = (
    "CASE WHEN d.state = 'failed' AND d.delivery >= 3 THEN 'accepted' ELSE coalesce(d.state, 'pending') END"
)
# Those that somebody waits for or has to look at: counted for each instance. Not what a person has given up.
QUEUE_STATES: Final = ("pending", "released", "failed", "unresolved")
_CHANGED: Final = "excluded.version > d.version"
_NEWER_MESSAGE: Final = """(excluded.message_id IS NOT NULL AND (d.message_id IS NULL
        OR (excluded.sent_at, excluded.message_id) > (d.sent_at, d.message_id)))"""
_LATER_FAILURE: Final = "excluded.error_key > d.error_key"
# Until the scheduler's word is here, campaign, recipient and step are known from the message.
_PLACE: Final = ", ".join(
    f"{column} = CASE WHEN {_CHANGED} THEN excluded.{column} ELSE coalesce(d.{column}, excluded.{column}) END"
    for column in ("subject_id", "recipient_id", "step")
)
_WORD: Final = ", ".join(
    f"{column} = CASE WHEN {_CHANGED} THEN excluded.{column} ELSE d.{column} END"
    for column in (
        "instance_id",
        "version",
        "attempt",
        "release",
        "state",
        "reason",
        "due_at",
        "changed_at",
        "may_duplicate",
        "given_up",
    )
)
_FAILED: Final = quarter("CASE WHEN {side}.state = 'failed' AND {side}.delivery < 3 THEN {side}.changed_at END")
_COUNTED: Final = count_moved(
    "new_subject_id, old_subject_id, new_failed, old_failed",
    "('campaign', new_subject_id, old_subject_id, 'failed', new_failed, old_failed)",
)
_QUEUED: Final = f"""queued AS (
    INSERT INTO queue_counter AS q (account_id, instance_id, state, value)
    SELECT t.account_id, e.instance_id, e.state, sum(e.rows)
    FROM (SELECT account_id, new_instance_id, CASE WHEN NOT new_given_up THEN new_state END AS new_state,
            old_instance_id, CASE WHEN NOT old_given_up THEN old_state END AS old_state, count(*) AS rows
        FROM moved GROUP BY 1, 2, 3, 4, 5) t
    CROSS JOIN LATERAL (VALUES (new_instance_id, new_state, t.rows), (old_instance_id, old_state, -t.rows))
        e (instance_id, state, rows)
    WHERE e.instance_id IS NOT NULL AND e.state IN ({", ".join(f"'{state}'" for state in QUEUE_STATES)})
    GROUP BY 1, 2, 3 HAVING sum(e.rows) <> 0
    ON CONFLICT (account_id, instance_id, state) DO UPDATE SET value = q.value + excluded.value
    RETURNING new.account_id, new.value
)"""
# What a dispatch adds to its campaign's figures, by its state; delivery is counted of accepted ones only.
_MEASURE: Final = (
    "'dispatches_' || CASE {side}_state WHEN 'accepted' THEN 'sent' WHEN 'released' THEN 'queued' ELSE {side}_state END"
)
_LEVELS: Final = (("dispatches_delivered", DELIVERED), ("dispatches_read", READ))
_MEASURED: Final = ", ".join(
    f"({side}_subject_id, {measure}, {rows})"
    for side, rows in (("new", "t.rows"), ("old", "-t.rows"))
    for measure in (
        _MEASURE.format(side=side),
        *(
            f"CASE WHEN {side}_state = 'accepted' AND {side}_delivery >= {level} THEN '{name}' END"
            for name, level in _LEVELS
        ),
    )
)
_TALLIED: Final = f"""tallied AS (
    INSERT INTO campaign_counter AS c (account_id, campaign_id, measure, reason, value)
    SELECT t.account_id, e.campaign_id, e.measure, '', sum(e.rows)
    FROM (SELECT account_id, new_subject_id, new_state, new_delivery, old_subject_id, old_state, old_delivery,
            count(*) AS rows
        FROM moved WHERE recipient_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7) t
    CROSS JOIN LATERAL (VALUES {_MEASURED}) e (campaign_id, measure, rows)
    WHERE e.campaign_id IS NOT NULL AND e.measure IS NOT NULL
    GROUP BY 1, 2, 3 HAVING sum(e.rows) <> 0
    ON CONFLICT (account_id, campaign_id, measure, reason) DO UPDATE SET value = c.value + excluded.value
    RETURNING new.account_id, new.campaign_id, new.value
)"""
# Planned and nothing else, of a row `d`: a recipient's row says as much before anything happens, so it is not written.
JUST_PLANNED: Final = """(d.version = 1 AND d.state = 'pending' AND d.message_id IS NULL AND d.error_key = ''
    AND coalesce(d.reason, 'previous_step') = 'previous_step')"""
# Whether something happened to a recipient's earlier or later step already.
_STIRRED: Final = """EXISTS (SELECT FROM recipient r WHERE r.account_id = moved.account_id AND r.id = moved.recipient_id
    AND coalesce(r.changed_at, r.sent_at, r.replied_at) IS NOT NULL)"""
# As in volume.py: whether a queue was ever longer than nothing depends on the batches. A few rows for each instance.
CLEAR_QUEUES: Final = "DELETE FROM queue_counter WHERE account_id = ANY($1::uuid[]) AND value = 0"
# A campaign's failures are dispatches that ended failed, whether or not a message existed. What tells nothing new
# is not written. Answers, each by (account, id): `recipient`, its state may have changed; `campaign`, its figures did;
# `emptied_figure` of a campaign, `emptied_queue` and `emptied_volume` of an account, whose row is to go.
UPSERT: Final = f"""
WITH moved AS (
    INSERT INTO dispatch AS d (account_id, id, subject_id, recipient_id, step, instance_id, version, attempt, release,
        state, reason, due_at, changed_at, may_duplicate, given_up, message_id, sent_at, delivery, delivered_at,
        read_at, error_key, error)
    SELECT * FROM unnest($1::projections.given_dispatch[])
    ON CONFLICT (account_id, id) DO UPDATE SET
        {_PLACE},
        {_WORD},
        message_id = CASE WHEN {_NEWER_MESSAGE} THEN excluded.message_id ELSE d.message_id END,
        sent_at = greatest(d.sent_at, excluded.sent_at),
        delivery = greatest(d.delivery, excluded.delivery),
        delivered_at = least(d.delivered_at, excluded.delivered_at),
        read_at = least(d.read_at, excluded.read_at),
        error = CASE WHEN {_LATER_FAILURE} THEN excluded.error ELSE d.error END,
        error_key = CASE WHEN {_LATER_FAILURE} THEN excluded.error_key ELSE d.error_key END
    WHERE {_CHANGED} OR {_NEWER_MESSAGE} OR {_LATER_FAILURE} OR excluded.delivery > d.delivery
        OR d.delivered_at IS DISTINCT FROM least(d.delivered_at, excluded.delivered_at)
        OR d.read_at IS DISTINCT FROM least(d.read_at, excluded.read_at)
        OR (d.subject_id IS NULL AND excluded.subject_id IS NOT NULL)
        OR (d.recipient_id IS NULL AND excluded.recipient_id IS NOT NULL)
    RETURNING new.account_id, new.recipient_id, new.subject_id AS new_subject_id, old.subject_id AS old_subject_id,
        {_FAILED.format(side="new")} AS new_failed, {_FAILED.format(side="old")} AS old_failed,
        new.instance_id AS new_instance_id, {EFFECTIVE_STATE.replace("d.", "new.")} AS new_state,
        old.instance_id AS old_instance_id, {EFFECTIVE_STATE.replace("d.", "old.")} AS old_state,
        new.delivery AS new_delivery, old.delivery AS old_delivery,
        new.given_up AS new_given_up, old.given_up AS old_given_up,
        {JUST_PLANNED.replace("d.", "new.")} AS just_planned
), {_COUNTED}, {_QUEUED}, {_TALLIED}
SELECT 'recipient', account_id, recipient_id FROM moved
WHERE recipient_id IS NOT NULL AND (NOT just_planned OR {_STIRRED})
UNION ALL SELECT CASE value WHEN 0 THEN 'emptied_figure' ELSE 'campaign' END, account_id, campaign_id FROM tallied
UNION ALL SELECT 'emptied_queue', account_id, NULL FROM queued WHERE value = 0
UNION ALL SELECT 'emptied_volume', account_id, NULL FROM counted WHERE value = 0
"""
# A dispatch of which nothing but its plan is said, and of which nothing was known. Answers as UPSERT, and `known`, by
# (account, id), for whatever has a row already: nothing is written of that.
INSERT_PLANNED: Final = f"""
WITH moved AS (
    INSERT INTO dispatch (account_id, id, subject_id, recipient_id, step, instance_id, reason, changed_at,
        version, attempt, release, state, may_duplicate, given_up, delivery, error_key)
    SELECT *, 1, 1, 0, 'pending', false, false, 0, '' FROM unnest($1::projections.given_planned[])
    ON CONFLICT DO NOTHING
    RETURNING account_id, id, recipient_id, subject_id AS new_subject_id, NULL::uuid AS old_subject_id,
        instance_id AS new_instance_id, NULL::uuid AS old_instance_id, state AS new_state, NULL AS old_state,
        0 AS new_delivery, 0 AS old_delivery, false AS new_given_up, false AS old_given_up
), {_QUEUED}, {_TALLIED}
SELECT 'recipient', account_id, recipient_id FROM moved WHERE {_STIRRED}
UNION ALL SELECT 'campaign', account_id, campaign_id FROM tallied
UNION ALL SELECT 'known', account_id, id FROM unnest($1::projections.given_planned[])
    WHERE (SELECT count(*) FROM moved) < cardinality($1::projections.given_planned[])
        AND (account_id, id) NOT IN (SELECT account_id, id FROM moved)
"""


async def write(connection: asyncpg.Connection, words: Words) -> list[Sequence[Any]]:
    """Answers what UPSERT answers. New dispatches of a plan go by a statement of their own: most rows begin so."""
    planned = [(*change[:PLACE_ENDS], change.reason, change.changed_at) for change in in_order(words.planned)]
    answers, others = [], dict(words.others)
    for answer in await run(connection, INSERT_PLANNED, planned):
        if answer[0] == "known":
            key = answer[1].int, answer[2].int
            others[key] = only_changed(words.planned[key])
        else:
            answers.append(answer)
    return answers + await run(connection, UPSERT, in_order(others))
