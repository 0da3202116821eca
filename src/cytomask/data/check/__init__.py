"""Find what is wrong with annotated data before anything is trained on it."""
