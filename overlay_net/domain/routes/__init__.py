"""StaticRoutes: which nodes get which routes, staged rollout, and status."""
