"""The audio service: recordings, transcripts and the engines that make them."""

import os

# Worker processes start by fork and exec, which needs nothing of gRPC's fork handlers; they only complain.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
