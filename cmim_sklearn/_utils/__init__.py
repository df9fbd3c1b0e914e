"""Utilities that know nothing of encoders or tables."""
