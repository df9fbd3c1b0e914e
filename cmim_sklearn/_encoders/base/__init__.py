"""Base classes of the learners: fit, use, files and documentation of parameters."""
