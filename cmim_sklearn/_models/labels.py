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
        """Weighted label term (n,) of the `LABEL_COLUMNS` of n rows, for a layer (n, ...)."""
        label, is_held_back = columns.unbind(1)
        counts = (is_held_back == 0) | (self.uses_all > 0)
        h = h.flatten(1)
        h = h.detach() + self.is_on * (h - h.detach())
        return self.weight * self.losses(h, torch.where(counts, label, torch.nan))


def label_losses(model, x, label):
    """Loss (n,) of the labels of encoded rows x (n, C), at the posterior means."""
    return model.labels.losses(model.decoder.body(model.posterior_mean(x)).flatten(1), label)


def make_head(model, n_classes, generator=None):
    """Label head for a `LatentModel`, on its device."""
    device = model.device
    z = torch.zeros(1, model.posterior.n_components, dtype=torch.float32, device=device)
    with torch.no_grad():
        width = model.decoder.body(z).flatten(1).shape[1]
    return LabelHead(width, n_classes, generator).to(device)
