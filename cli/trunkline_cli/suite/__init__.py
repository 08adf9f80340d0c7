"""Runs the whole suite as separate processes on one machine: for `up`, `demo`, the end-to-end tests, and benches."""
