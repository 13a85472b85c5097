"""The node agent: a small kubelet that runs pods as processes of this machine."""
