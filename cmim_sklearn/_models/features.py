"""Features of a latent model: hidden layers and posterior means, their scale and inverse.

Axes: n rows, C columns, d latent components, w features, P decoder outputs.
"""

import math

import numpy as np
from torch import nn

from cmim_sklearn.networks import MLP

EMBEDDINGS = ("informative", "hidden", "layers", "mean")

TOTAL_VARIANCE = 20.0
"""Sum of the variances of all features, for any number of features.

The default penalty of a linear model then suits features of any width. A logistic regression with
C=1 on 512 standardised features overfits a few hundred labels; at a tenth of that scale it
underfits some thousands. Each layer has the same share.
"""

MIN_LAYER_DEVIATION = 1e-5
"""Root mean square deviation of a layer below which it counts as constant up to rounding."""


def hidden_states(network, *inputs):
    """Hidden activations of a network with ``body`` and ``output``, first to last.

    There is one per child of ``body`` if that is an `nn.Sequential`, else the output of ``body``
    alone. The last one is the input of ``output``; in a decoder it is the informative embedding.

    Parameters
    ----------
    network : nn.Module
        Decoder or encoder with the submodules ``body`` and ``output``.
    *inputs : Tensor
        Codes (n, d) or encoder inputs, and any other arguments of a ``body`` that is not an
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
    """Layers of each named embedding of encoded rows x (n, C).

    - "informative": the decoder's last hidden activation at the posterior mean.
    - "hidden": all hidden activations of the decoder.
    - "layers": the hidden activations of the encoder, then those of the decoder. Hidden layers of
      an encoder that is not an `MLP` are unknown and left out.
    - "mean": the posterior mean.

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
    """Decode features (n, w) of one of the `EMBEDDINGS` to decoder outputs (n, P).

    Hidden features pass through the output layer only, which takes the last activation.
    """
    if embedding == "mean":
        return model.decoder(features)
    z = features.new_zeros(1, model.posterior.n_components)
    shape = hidden_states(model.decoder, z)[-1].shape[1:]
    return model.decoder.output(features[:, -math.prod(shape) :].reshape(-1, *shape))


def feature_scale(parts):
    """Centre and scale, each (w,), that bring layers (n, w_i) to `TOTAL_VARIANCE` in all.

    A layer has one factor, so its features keep their relative variances: directions in which rows
    differ most have the largest weight. This helps with few labels and does no harm with many.
    """
    scales = []
    for values in parts:
        deviation = math.sqrt(float(values.var(0).mean()))
        deviation = deviation if deviation > MIN_LAYER_DEVIATION else 1.0
        target = math.sqrt(TOTAL_VARIANCE / len(parts) / values.shape[1])
        scales.append(np.full(values.shape[1], deviation / target, values.dtype))
    return np.concatenate([values.mean(0) for values in parts]), np.concatenate(scales)
