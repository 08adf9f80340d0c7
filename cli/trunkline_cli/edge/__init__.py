"""The edge: Envoy's configuration, from typed messages, and the control plane that can serve it."""
