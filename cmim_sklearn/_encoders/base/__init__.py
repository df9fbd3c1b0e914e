"""What the learners share: fit, use, files and documentation of parameters."""
