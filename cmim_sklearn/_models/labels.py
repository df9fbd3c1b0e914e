"""Label head: a linear map from the decoder's last hidden layer to a label, trained with the model.

Axes: n rows, w units of the layer, K classes.
"""

import torch
from torch import Tensor, nn

from cmim_sklearn.networks import linear, reset_parameters

LABEL_COLUMNS = 2
"""Columns after those of the table in rows with labels: the label, and 1 where it is held back."""


class LabelHead(nn.Module):
    """Linear classifier or regression of the label, and its weight in the loss.

    A buffer says whether labels train the model, so that graphs and batched training need no
    branches.

    Parameters
    ----------
    n_in : int
        Width w of the layer.
    n_classes : int
        Number of classes; 0 for a number, which is standardised.
    generator : torch.Generator
        Generator of the initial weights.

    Attributes
    ----------
    weight : Tensor of shape ()
        Weight of the label term.
    is_on : Tensor of shape ()
        1 if the label term trains the model, 0 if it trains the head alone.
    uses_all : Tensor of shape ()
        1 if labels that are held back train the model as well.
    """

    def __init__(self, n_in, n_classes, generator=None):
        super().__init__()
        self.n_classes = n_classes
        self.linear = linear(n_in, n_classes or 1)
        reset_parameters(self, generator)
        for name, value in (("weight", 0.0), ("is_on", 1.0), ("uses_all", 0.0)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    def set(self, **values):
        """Set buffers in place."""
        with torch.no_grad():
            for name, value in values.items():
                getattr(self, name).fill_(value)

    def losses(self, h, label) -> Tensor:
        """Loss (n,) of labels (n,) for a layer (n, w), in nats; 0 where the label is NaN.

        The cross-entropy, or half the squared error in standardised units.
        """
        outputs, known = self.linear(h), ~label.isnan()
        label = torch.where(known, label, 0.0)
        if self.n_classes:
            place = label.long().unsqueeze(1)
            losses = -outputs.log_softmax(1).gather(1, place).squeeze(1)
        else:
            losses = 0.5 * (label - outputs.squeeze(1)).square()
        return torch.where(known, losses, 0.0)

    def forward(self, h, columns) -> Tensor:
        """Weighted label term (n,) of the `LABEL_COLUMNS` of n rows, for a layer (n, w)."""
        label, is_held_back = columns.unbind(1)
        counts = (is_held_back == 0) | (self.uses_all > 0)
        h = h.detach() + self.is_on * (h - h.detach())
        return self.weight * self.losses(h, torch.where(counts, label, torch.nan))


def label_losses(model, x, label):
    """Loss (n,) of the labels of encoded rows x (n, C), at the posterior means."""
    _, h = decode(model.decoder, model.posterior_mean(x))
    return model.labels.losses(h, label)


def decode(decoder, z):
    """Outputs of a decoder for codes (n, d), and its last hidden layer as (n, w).

    Raises
    ------
    ValueError
        If the decoder does not call a module ``body``.
    """
    kept = []
    if not isinstance(decoder.body, nn.Module):
        raise ValueError(_no_body(decoder))
    hook = decoder.body.register_forward_hook(lambda _module, _inputs, h: kept.append(h))
    try:
        params = decoder(z)
    finally:
        hook.remove()
    if not kept:
        raise ValueError(_no_body(decoder))
    return params, kept[-1].flatten(1)


def _no_body(decoder):
    return (
        "With label_weight above 0, `decoder` must build a network that calls its module `body`; "
        f"got {type(decoder).__name__}, which does not. Call self.body(z) in its forward method, "
        "or set label_weight=0."
    )


def make_head(model, n_classes, generator=None):
    """Label head for a `LatentModel`, on its device."""
    device, decoder = model.device, model.decoder
    z = torch.zeros(2, model.posterior.n_components, dtype=torch.float32, device=device)
    modes = {module: module.training for module in decoder.modules()}
    decoder.eval()  # a batch norm neither counts these rows nor fails, and dropout draws nothing
    try:
        with torch.no_grad():
            _, h = decode(decoder, z)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return LabelHead(h.shape[1], n_classes, generator).to(device)
