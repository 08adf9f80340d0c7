"""What watches the suite: rules, dashboards, and a Prometheus to run them; from here to deploy/ by `make settings`."""
