"""What a release consists of: versions that agree, notes, and packages with the links of their publisher."""
