"""Sizes that both ends of a channel agree on, and what requests are counted as."""

MOST_MESSAGE_BYTES = 32 * 1024 * 1024
"""The largest message: a transcript of hours with every word."""
MOST_REQUEST_BYTES = 4 * 1024 * 1024
"""The largest request, of methods of which the access table does not say that they take large ones."""
COUNTED_ROUTES = ("api", "media", "grpc")
"""What has hourly limits of its own: HTTP under /v1, the bytes of recordings, and gRPC at Envoy."""
