"""Recordings: fetched once, kept within a tenant's quota, deleted."""
