"""Engines side by side behind the interface of `base`."""
