"""Effects: what the operator reads from and writes to Kubernetes on behalf of a workflow."""
