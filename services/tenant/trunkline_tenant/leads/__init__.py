"""Leads: who called, derived from their calls."""
