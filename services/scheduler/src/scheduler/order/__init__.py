"""What people order: answers, dead letters, opt-outs, kill-switches."""
