"""The sidecar beside an engine: it says that it is there, renames the engine's metrics and hands adapters on."""
