"""Likelihoods of columns, one file per column kind, with scaling and summaries."""
