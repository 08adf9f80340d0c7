"""The OpenAPI document of `/v1`, derived from the bindings that serve it."""
