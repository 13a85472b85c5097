"""The parts of the system: for each its command, environment, health check, needs and address."""
