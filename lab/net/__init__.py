"""Private network namespaces, the VLAN that the nodes of the lab share, and traffic across it."""
