"""Costs: charges of engines, counted by tenant."""
