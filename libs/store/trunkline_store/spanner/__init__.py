"""Cloud Spanner as an engine; importing this package loads nothing of google.cloud, opening a database does."""
