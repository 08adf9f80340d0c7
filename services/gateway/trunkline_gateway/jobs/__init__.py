"""Jobs as workers claim, report and lose them, and each tenant's share of the workers."""
