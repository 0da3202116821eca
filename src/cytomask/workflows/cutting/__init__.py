"""Crops around regions of interest."""
