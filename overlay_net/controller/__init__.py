"""Reconcilers and wiring of the controller mode."""
