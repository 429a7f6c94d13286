"""From the desired state of a node and its observed kernel to the changes that are left to do."""
