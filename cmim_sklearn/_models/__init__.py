"""Torch models: latent model, two-view models, features, latent prior and row posterior."""
