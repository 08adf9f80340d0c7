"""What is asked at the edge, by Envoy or by a gateway without one: who calls, and whether limits allow it."""
