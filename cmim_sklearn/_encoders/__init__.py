"""Learners, one file each with its loss, and the base classes that they share."""
