"""Alembic revisions of the ai service's schema."""
