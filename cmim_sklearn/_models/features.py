"""Features of a latent model: hidden layers and posterior means, their scale and inverse."""

import math

import numpy as np
from torch import nn

from cmim_sklearn.networks import MLP

EMBEDDINGS = ("informative", "hidden", "layers", "mean")


TOTAL_VARIANCE = 20.0
"""Sum of the variances of all features, whatever their number.

A linear model's default penalty is then right for features of any width: a logistic regression with
C=1 on 512 standardised features overfits a few hundred labels, and one at a tenth of that scale
underfits some thousands. Each layer has the same share.
"""


LEAST_SPREAD = 1e-5
"""Root mean square deviation of a layer below which it is rounding, and the layer constant."""


def hidden_states(network, *inputs):
    """The hidden activations of a network that has ``body`` and ``output``, first to last.

    One for each child of ``body`` where that is an `nn.Sequential`, else its output alone. The last
    is what ``output`` is given: the informative embedding.

    Parameters
    ----------
    network : nn.Module
        A decoder, or an encoder that has both.
    *inputs : Tensor
        Codes (n, d) or encoder inputs, and whatever else ``body`` takes where it is no
        `nn.Sequential`.

    Returns
    -------
    list of Tensor of shape (n, ...)
    """
    if not isinstance(network.body, nn.Sequential):
        return [network.body(*inputs)]
    states, (h,) = [], inputs
    for block in network.body:
        h = block(h)
        states.append(h)
    return states or [h]


def layers(model, x, embeddings=EMBEDDINGS):
    """The layers that the named embeddings of encoded rows x (n, C) consist of, by name.

    "informative" is the decoder's last hidden activation at the posterior mean, "hidden" all its
    hidden activations, "layers" those of the encoder before them, "mean" the posterior mean itself.
    An encoder that is not of `cmim_sklearn.networks` adds none to "layers": what its hidden layers
    are is not known.

    Returns
    -------
    dict of str to list of Tensor of shape (n, w)
    """
    inputs, encoder = model.likelihood.inputs(x), model.encoder
    encoder_states, decoder_states = [], []
    if "layers" in embeddings and isinstance(encoder, MLP) and len(encoder.body):
        encoder_states = hidden_states(encoder, inputs)
        outputs = encoder.output(encoder_states[-1])
    else:
        outputs = encoder(inputs)
    z = model.posterior.inference(outputs).mean
    if set(embeddings) != {"mean"}:
        decoder_states = hidden_states(model.decoder, z)
    # NOTE[paper] The paper's embedding is "informative"; "hidden" and "layers" are ours.
    found = {
        "informative": decoder_states[-1:],
        "hidden": decoder_states,
        "layers": encoder_states + decoder_states,
        "mean": [z],
    }
    return {name: [state.flatten(1) for state in found[name]] for name in embeddings}


def decode(model, features, embedding):
    """Decoder outputs (n, P) of features (n, w) of one of the `EMBEDDINGS`.

    Hidden features go through the output layer alone, which sees the last activation.
    """
    if embedding == "mean":
        return model.decoder(features)
    z = features.new_zeros(1, model.posterior.n_components)
    shape = hidden_states(model.decoder, z)[-1].shape[1:]
    return model.decoder.output(features[:, -math.prod(shape) :].reshape(-1, *shape))


def feature_scale(parts):
    """Centre and scale, each (w,), that bring layers (n, w_i) to `TOTAL_VARIANCE` together.

    One factor for a whole layer: its features keep their variances relative to each other, so that
    directions in which rows differ most weigh most. Few labels need that, and many do not mind.
    """
    scales = []
    for values in parts:
        spread = math.sqrt(float(values.var(0).mean()))
        spread = spread if spread > LEAST_SPREAD else 1.0
        deviation = math.sqrt(TOTAL_VARIANCE / len(parts) / values.shape[1])
        scales.append(np.full(values.shape[1], spread / deviation, values.dtype))
    return np.concatenate([values.mean(0) for values in parts]), np.concatenate(scales)
