"""The examination of annotated data, and its repair."""
