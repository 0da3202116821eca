"""The steps of a prediction, and what it writes."""
