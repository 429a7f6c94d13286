"""Settings of both modes, read once at start from the environment and a YAML file."""
