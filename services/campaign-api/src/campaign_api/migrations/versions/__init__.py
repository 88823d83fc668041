"""The schema campaign_api, oldest first."""
