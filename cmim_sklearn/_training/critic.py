"""Critic: a second net that is trained together with a model, for `InfoMaxVAEEncoder`."""

from weakref import WeakKeyDictionary

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from cmim_sklearn._training.state import (
    bound_gradients,
    copy_optimizer_state,
    restore,
    scale_optimizer_rate,
    training_state,
)

CIRCLE_SEED = 0

_known_partners = WeakKeyDictionary()
"""Partners by number of rows and device, for each critic that is alive.

A CUDA graph of a critic reads the tensor again in each replay.
"""


class CriticNet(NeuralNet):
    """Net of a critic, trained to raise a lower bound on mutual information.

    Parameters
    ----------
    module : nn.Module
        Function f of encoder inputs (n, W) and latent codes (n, d), with values (n,).
    criterion : nn.Module
        From f at pairs and f at shuffled pairs, each (n,), to the bound, (n,).
    **kwargs : dict
        See `skorch.NeuralNet`.
    """

    def train_step_single(self, batch, **fit_params):
        """One backward pass over inputs and latent codes, without gradients to either."""
        self._set_training(True)
        bound = self.criterion_(*critic_values(self.module_, *batch))
        loss = -bound.mean()
        loss.backward()
        bound_gradients(self.optimizer_)
        return {"loss": loss, "y_pred": bound}


def critic_values(critic, inputs, z):
    """Values of a critic at pairs (x_i, z_i), and at pairs of each x_i with another row's code.

    There must be at least two rows.
    """
    known = _known_partners.setdefault(critic, {}) if isinstance(critic, nn.Module) else {}
    place = len(z), z.device
    if place not in known:
        known[place] = _partners(*place)
    return critic(inputs, z), critic(inputs, z[known[place]])


def _partners(n, device):
    """Another row for each of n rows, (n,), on a device."""
    # Each row is paired with the next row of a random cycle, so never with itself. The cycle is
    # random because held-out rows are not shuffled, and neighbours may be similar. It is the same
    # for every batch.
    circle = torch.randperm(n, generator=torch.Generator().manual_seed(CIRCLE_SEED))
    other = torch.empty_like(circle)
    other[circle] = circle.roll(1)
    return other.to(device)


class TrainCritic(Callback):
    """Train a critic by one step after each step of the model, on the same batch.

    Parameters
    ----------
    critic : CriticNet
        Initialised net.
    """

    def __init__(self, critic):
        self.critic = critic

    def on_batch_end(self, net, training=False, passed=None, **kwargs):
        """Train the critic on the inputs and latent codes of the model's batch, if it has pairs."""
        if training and passed is not None and len(passed.z) > 1:  # None: a graph trained both
            self.critic.train_step((passed.inputs.detach(), passed.z.detach()))

    def scale_learning_rate(self, factor):
        """Multiply the critic's learning rate."""
        scale_optimizer_rate(self.critic.optimizer_, factor)

    def state_dict(self):
        """State of the critic: weights and optimizer."""
        return training_state(self.critic)

    def load_state_dict(self, state):
        """Restore the critic."""
        restore(self.critic, state)

    def continue_from(self, before):
        """Copy weights and optimizer of another `TrainCritic`, unless the sizes differ."""
        own, other = self.critic, before.critic
        shapes = [[w.shape for w in net.module_.parameters()] for net in (own, other)]
        if shapes[0] == shapes[1]:
            own.module_.load_state_dict(other.module_.state_dict())
            copy_optimizer_state(other.optimizer_, own.optimizer_)
