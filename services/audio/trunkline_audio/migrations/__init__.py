"""Alembic revisions of the audio service's schema."""
