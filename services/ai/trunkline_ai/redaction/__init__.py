"""Personal data in conversations: finding it, and keeping it from engines outside of the suite."""
