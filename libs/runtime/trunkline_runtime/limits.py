"""Sizes that both ends of a channel agree on."""

MOST_MESSAGE_BYTES = 32 * 1024 * 1024
"""The largest message: a transcript of hours with every word, or an uploaded chunk."""
