"""Benchmarks, one per module: speed as a ratio to the limit of this machine, measured in the same run."""
