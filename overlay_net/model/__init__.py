"""Value types parsed from the objects of the API, the IPAM and the kernel."""
