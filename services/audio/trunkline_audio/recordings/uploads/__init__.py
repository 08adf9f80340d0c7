"""Uploads: recordings that callers send, in one stream or in parts."""
