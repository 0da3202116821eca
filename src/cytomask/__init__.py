"""cytomask."""
