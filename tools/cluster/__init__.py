"""A real Kubernetes control plane on one machine: etcd, the API server, controllers, the scheduler, and kwok."""
