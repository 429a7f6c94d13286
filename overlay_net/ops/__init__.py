"""Observability: health endpoints, metrics, logs and events."""
