"""What is packed by hand: netlink messages in batches, and the routes of the kernel, which are tens of thousands."""
