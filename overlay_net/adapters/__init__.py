"""Clients of external systems: each module talks to one of them and translates its errors."""
