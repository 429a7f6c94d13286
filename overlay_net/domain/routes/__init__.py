"""Decisions about StaticRoutes: routes of each node, staged rollout, and status."""
