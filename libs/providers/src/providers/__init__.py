"""How each provider speaks: requests, answers, webhooks. Pure, and imports nothing of ours."""
