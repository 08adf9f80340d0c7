"""The process: signals, periodic work, garbage collection, faults of its machine."""
