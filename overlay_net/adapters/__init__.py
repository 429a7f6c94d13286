"""One foreign system per file, each with the translation of its errors."""
