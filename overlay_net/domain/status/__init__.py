"""What people see of the whole cluster: counts, events, one screen."""
