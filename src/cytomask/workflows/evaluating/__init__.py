"""The two sides of an evaluation: finding, reading, scoring and drawing them."""
