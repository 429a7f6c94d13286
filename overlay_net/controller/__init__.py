"""The controller: reconciles nodes, StaticRoutes and pools with the IPAM."""
