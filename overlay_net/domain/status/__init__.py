"""Summaries of the whole cluster for users: counts, events, and the output of `overlay-net status`."""
