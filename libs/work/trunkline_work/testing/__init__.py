"""What every source of jobs must pass."""
