"""A Kubernetes cluster on one machine: real kubelets and containerd on the nodes of the lab's VLAN.

`api_server` is etcd and kube-apiserver alone, `control_plane` adds the controller manager and the scheduler. `machine`
has the namespaces, mounts and control groups of a node, `node` runs containerd and the kubelet on it, `cluster`
combines them, and `requirements` checks whether this machine can run them.
"""
