"""Which address a node has: reservation, release, pools, audit."""
