"""The Whisper engine: its settings, its process, and what it makes of the process's answers."""
