"""Kernels on labels, masks and polygons: arrays in, arrays out, rows first."""
