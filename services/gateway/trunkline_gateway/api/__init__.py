"""The HTTP API: every RPC transcoded, conversations, usage, readiness."""
