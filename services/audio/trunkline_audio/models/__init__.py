"""Models that ship with the package, each beside its licence and listed in SHA256SUMS."""
