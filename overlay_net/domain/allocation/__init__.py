"""Decisions about node addresses: reservation, release, pools, audit."""
