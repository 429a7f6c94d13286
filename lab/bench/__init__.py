"""Speed, each figure beside the limit of this machine, measured in the same run: one module for each benchmark."""
