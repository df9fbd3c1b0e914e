"""What `transform` returns: features read from a code or from the decoder's hidden state, and back.

Axes: n rows, d latent components, w features.
"""

import math

import torch

EMBEDDINGS = ("informative", "hidden", "mean")
TOTAL_VARIANCE = 20.0
"""Sum of the variances of all features, whatever their number.

A linear model's default penalty is then right for features of any width: a logistic regression with
C=1 on 512 standardised features overfits a few hundred labels, and one at a tenth of that scale
underfits some thousands. Each feature has the same share.
"""


def embed(model, x):
    """All embeddings of encoded rows x (n, C): a dict of name to (n, w).

    "informative" is the decoder's last hidden activation at the posterior mean, "hidden" all its
    hidden activations side by side, "mean" the posterior mean itself.
    """
    z = model.posterior_mean(x)
    states = model.hidden_states(z)
    return {"informative": states[-1], "hidden": torch.cat(states, 1), "mean": z}


def decode(model, features, embedding):
    """Decoder outputs (n, P) of features (n, w) of one of the `EMBEDDINGS`.

    Hidden features go through the output layer alone, which sees the last activation.
    """
    return model.decoder(features) if embedding == "mean" else model.decode_hidden(features)


def feature_scale(values):
    """Centre and scale, each (w,), that bring features (n, w) to `TOTAL_VARIANCE` together."""
    deviation = math.sqrt(TOTAL_VARIANCE / values.shape[1])
    return values.mean(0), (values.std(0) + 1e-6) / deviation
