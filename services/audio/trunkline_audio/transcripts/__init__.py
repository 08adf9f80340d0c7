"""Transcripts: made once from a recording, a language and a generation."""
