"""Published data sets: the catalogue, and fetching them."""
