"""Summaries of the whole cluster for people: counts, events, and the output of `overlay-net status`."""
