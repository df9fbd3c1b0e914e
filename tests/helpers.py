"""Functions that several test modules share."""

import torch

from cmim_sklearn._likelihoods.joint import LIKELIHOODS, Joint
from cmim_sklearn._models.latent_model import LatentModel, Pass
from cmim_sklearn.latents import POSTERIORS, DiagonalNormal, standard_normal
from cmim_sklearn.mutual_information._estimators import ESTIMATORS
from cmim_sklearn.networks import MLP, reset_parameters
from tests.likelihoods.test_joint import columns_of

NEURAL_ESTIMATORS = {name: kind for name, kind in ESTIMATORS.items() if name != "ksg"}
"""Estimators of mutual information that train a critic."""

SHORT_TRAINING = {"max_iter": 5, "hidden_layer_sizes": (8,), "random_state": 0, "device": "cpu"}
"""Parameters of a neural estimator whose accuracy does not matter."""


def seeded(seed=0):
    """A torch generator with a seed."""
    return torch.Generator().manual_seed(seed)


def make_latent_model(posterior="sampled", sizes=(8, 6), masking=0.0, d=3):
    """A `LatentModel` with two columns of every kind, and 60 encoded rows for it."""
    parts = [kind.fit(columns_of(name), "ab") for name, kind in LIKELIHOODS.items()]
    joint = Joint(parts)
    head = POSTERIORS[posterior](d)
    encoder = MLP(joint.n_inputs, d * head.outputs_per_component, sizes, "silu")
    decoder = MLP(d, joint.n_params, sizes, "silu")
    model = LatentModel(encoder, head, decoder, joint, masking)
    reset_parameters(model, seeded())
    columns = zip(LIKELIHOODS, parts, strict=True)
    x = torch.cat([torch.from_numpy(part.encode(columns_of(k))) for k, part in columns], 1)
    return model, x


def make_pass(n=6, d=3, n_columns=4, seed=0):
    """A `Pass` of random codes and densities."""
    generator = seeded(seed)
    mean = torch.randn(n, d, generator=generator)
    posterior = DiagonalNormal(mean, torch.full((n, 1), -1.0))
    z = posterior.rsample(torch.randn(n, d, generator=generator))
    log_px = -torch.rand(n, n_columns, generator=generator)
    return Pass(z, posterior, standard_normal(z), log_px)


def score_matrix(b=6, seed=0, scale=2.0):
    """A random score matrix of a critic, (b, b)."""
    return scale * torch.randn(b, b, generator=seeded(seed), dtype=torch.float64)
