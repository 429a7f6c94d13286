"""The agent: reconciles one node's kernel with its NodeOverlayIp."""
