"""Simulated agents: many in one process, which list, watch, merge and report as the real one does, without a kernel.

In reality each agent has a machine of its own. So what they compute from identical bytes is computed once for all of
them (`shared.py`); everything else, each request and each byte on the wire, is that of a real agent.
"""
