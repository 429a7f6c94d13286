"""The site of the documentation: `python -m lab.site` builds it from mkdocs.yml and checks its links."""
