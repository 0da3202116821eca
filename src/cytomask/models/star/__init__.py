"""The star-convex family (StarDist, Schmidt et al. 2018): an object is a centre, a probability and radial distances."""
