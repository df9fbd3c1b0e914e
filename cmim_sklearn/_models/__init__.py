"""Torch models of rows, their features, latent prior and row posterior."""
