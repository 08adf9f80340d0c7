"""CallRail: signatures, event types, facts."""
