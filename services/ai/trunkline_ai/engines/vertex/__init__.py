"""The engine for Gemini on Vertex AI."""
