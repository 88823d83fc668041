"""What became of campaigns: their rows, recipients, dispatches, replies, and the figures over them."""
