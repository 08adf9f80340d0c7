"""Runs the whole suite as separate processes on one machine: for `make up`, `make demo`, the e2e tests and benches."""
