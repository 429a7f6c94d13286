"""The install of a release: whether the namespace of a release admits its pods, and has room for them."""
