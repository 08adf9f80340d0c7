"""Alembic revisions of the tenant service's schema."""
