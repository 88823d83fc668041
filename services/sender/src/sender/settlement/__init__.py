"""What became of attempts whose answer was lost: evidence, look-ups, silence."""
