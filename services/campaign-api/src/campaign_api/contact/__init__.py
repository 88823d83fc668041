"""People an account knows: their stream, the row beside it, their HTTP door."""
