"""Short names for how a receipt's signature was found, as stored in receipts."""

from trunkline.gateway.v1 import event_pb2

VERIFIED = int(event_pb2.VERDICT_VERIFIED)
UNVERIFIED = int(event_pb2.VERDICT_UNVERIFIED)
