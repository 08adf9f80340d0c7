"""Logs, metrics and traces, without what is personal or secret."""
