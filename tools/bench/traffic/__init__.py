"""What sends webhooks in the benches, and the bare server that they are compared with."""
