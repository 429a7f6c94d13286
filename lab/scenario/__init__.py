"""What the demo shows and the end-to-end tests assert: an installation from its first route to its removal.

A `Lab` is an installed product on the VLAN: `process_lab` runs controller and agents as processes, without kubelets;
`kubelet_lab` has kubelets run the chart. `steps` are the steps that both share; `process_scenario` and
`kubelet_scenario` order them and add those that only one lab can take.
"""
