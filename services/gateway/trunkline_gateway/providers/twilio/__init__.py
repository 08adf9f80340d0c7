"""Twilio: signatures, callbacks, facts, and its API."""
