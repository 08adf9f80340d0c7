"""Personal data in what was said: finding it, and placeholders in its place."""
