"""Long runs: what only many invocations, or many at once, can show."""
