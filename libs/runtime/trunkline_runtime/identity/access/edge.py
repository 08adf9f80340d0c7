"""Who may call what Envoy asks of the tenant service: the edge alone. The protos are Envoy's own."""

from trunkline_runtime.identity.access.rules import EDGE, internal

RULES = {
    f"/envoy.service.{method}": internal(services=EDGE)
    for method in ("auth.v3.Authorization/Check", "ratelimit.v3.RateLimitService/ShouldRateLimit")
}
