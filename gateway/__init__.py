"""The request path: who serves which model, told to the kernel, and the kernel's answers told to Envoy."""
