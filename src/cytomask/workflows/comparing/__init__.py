"""What is compared, what it costs, and what is written of it."""
