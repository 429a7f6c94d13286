"""Values only: what the objects of the API, the IPAM and the kernel say, parsed into real types."""
