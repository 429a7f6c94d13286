"""Texts of the benchmark `scale`."""

from lab.bench.measure import Row
from lab.bench.scale_cluster import Cluster


def row(what: str, measured: str, ratio: str = "") -> Row:
    return "scale", what, measured, ratio


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


def block(cluster: Cluster) -> str:
    return ", ".join(f"{clock} {ms(seconds)}" for clock, seconds in cluster.longest_block().items())


def memory(cluster: Cluster) -> str:
    return f"{cluster.peak_memory() / 1024:.0f} MiB"
