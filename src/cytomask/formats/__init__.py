"""File formats of images and annotations, one file each."""
