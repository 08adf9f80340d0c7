"""CPU work in processes of its own, so that the event loop never blocks and a crash costs one job."""
