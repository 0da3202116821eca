"""The dense family: networks that say something of every pixel, and what makes objects of it."""
