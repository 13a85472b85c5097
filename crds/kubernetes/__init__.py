"""Kubernetes' own types inside ours: what the API publishes about them, and how that becomes part of our schemas."""
