"""Private network namespaces, the VLAN of the lab's nodes, and traffic across it."""
