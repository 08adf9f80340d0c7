"""Tenants: plans, states, deletion."""
