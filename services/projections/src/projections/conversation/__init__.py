"""Messages of every side, one row each, and the conversations that they make."""
