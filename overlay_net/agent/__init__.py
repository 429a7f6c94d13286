"""Reconciler and wiring of the agent mode."""
