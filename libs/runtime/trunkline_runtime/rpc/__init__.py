"""gRPC: servers, channels, what stands around every call, and the health of what a service depends on."""
