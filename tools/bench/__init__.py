"""Figures beside their targets: `make bench`. Performance is measured here, never in a timed unit test."""
