"""The lab: a real control plane and a VLAN of nodes on one machine, for the demo, the tests and the benchmarks.

It is synchronous, runs ordinary programs, and is not part of the product.
"""
