"""Pages and tables that are written from the product. `python -m lab.reference` updates them; tests compare them."""
