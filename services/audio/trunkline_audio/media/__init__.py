"""A recording's bytes: fetched, kept, decoded, its speech found."""
