"""Which StaticRoutes apply to which nodes, and what their status is."""
