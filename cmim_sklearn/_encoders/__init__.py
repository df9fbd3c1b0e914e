"""The learners, one file each with its loss, and the base classes they share."""
