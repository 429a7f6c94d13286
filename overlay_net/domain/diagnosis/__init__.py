"""What `overlay-net doctor` concludes from the state of a cluster and of the kernels of nodes."""
