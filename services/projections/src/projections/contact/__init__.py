"""People: contact records joined by the aliases they share."""
