"""How people talk, derived from transcripts."""
