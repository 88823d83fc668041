"""What a team keeps at hand: products, tasks, groups, canned answers. Plain tables with an audit log."""
