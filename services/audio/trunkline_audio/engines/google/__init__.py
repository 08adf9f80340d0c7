"""Google Speech-to-Text v2. Its client library is loaded only where it is used."""
