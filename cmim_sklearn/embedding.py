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


LEAST_SPREAD = 0.01
"""The smallest deviation that is scaled up in full, as a share of their root mean square."""


def embed(model, x, embeddings=EMBEDDINGS):
    """The named embeddings of encoded rows x (n, C): a dict of name to (n, w).

    "informative" is the decoder's last hidden activation at the posterior mean, "hidden" all its
    hidden activations side by side, "mean" the posterior mean itself.
    """
    z = model.posterior_mean(x)
    states = model.hidden_states(z) if set(embeddings) != {"mean"} else []
    make = {
        "informative": lambda: states[-1],
        "hidden": lambda: torch.cat(states, 1),
        "mean": lambda: z,
    }
    return {name: make[name]() for name in embeddings}


def decode(model, features, embedding):
    """Decoder outputs (n, P) of features (n, w) of one of the `EMBEDDINGS`.

    Hidden features go through the output layer alone, which sees the last activation.
    """
    return model.decoder(features) if embedding == "mean" else model.decode_hidden(features)


def feature_scale(values):
    """Centre and scale, each (w,), that bring features (n, w) to `TOTAL_VARIANCE` together.

    A feature that hardly varied in fit (a unit that is dead on these rows) keeps a small variance:
    brought to that of the others, it would throw the first row on which it wakes out of all bounds.
    """
    deviation = math.sqrt(TOTAL_VARIANCE / values.shape[1])
    spread = values.std(0)
    typical = math.sqrt(float((spread**2).mean()))
    # Rounding alone is no variance: features of a table whose rows are all alike stay as they are.
    floor = LEAST_SPREAD * typical if typical > 1e-5 else 1.0
    return values.mean(0), spread.clip(min=floor) / deviation
