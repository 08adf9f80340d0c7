"""Calls: what events state of them, merged by field."""
