"""What sends webhooks in the benches, the bare server that they are compared with, and the names of replicas."""
