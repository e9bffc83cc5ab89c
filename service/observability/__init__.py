"""Numbers and logs: what operators see."""
