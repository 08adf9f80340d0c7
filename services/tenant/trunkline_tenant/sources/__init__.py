"""Webhook sources, their secrets, and the stream of their changes."""
