"""Who calls: callers, their tokens, and the table of what each may call."""
