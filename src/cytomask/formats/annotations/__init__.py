"""Annotation formats: one module each, listed in the table of ``annotation_formats``."""
