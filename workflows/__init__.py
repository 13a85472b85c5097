"""Durable loops: one workflow an object, one an operation of it, and the process that runs them."""
