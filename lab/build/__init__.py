"""The programs and images that the lab needs, found or built from source."""
