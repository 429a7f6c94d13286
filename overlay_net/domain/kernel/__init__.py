"""Plans the kernel changes of a node from its desired and observed state, and reports the differences."""
