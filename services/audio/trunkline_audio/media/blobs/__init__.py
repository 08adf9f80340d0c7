"""Where the bytes of recordings lie."""
