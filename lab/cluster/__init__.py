"""A whole Kubernetes cluster on one machine: real kubelets and containerd on the nodes of the lab's VLAN.

`control_plane` is the API server with its controllers and its scheduler, `machine` a node's namespaces, mounts and
cgroups, `node` what runs on it, `cluster` all of it, `requirements` what a machine must be able to do for that.
"""
