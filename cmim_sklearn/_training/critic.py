"""A second net beside the one that trains a model: a critic, for `InfoMaxVAEEncoder`."""

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

from cmim_sklearn._training.state import restore, slow_down_optimizer, take_over, training_state

CIRCLE_SEED = 0


class CriticNet(NeuralNet):
    """A second net beside a `LatentNet`: a critic, trained to raise a bound on information.

    Parameters
    ----------
    module : nn.Module
        A function f of encoder inputs (n, W) and codes (n, d), (n,).
    criterion : nn.Module
        From f at pairs and f at shuffled pairs, each (n,), to the bound, (n,).
    **kwargs : dict
        See `skorch.NeuralNet`.
    """

    def train_step_single(self, batch, **fit_params):
        """One backward pass over inputs and codes, without gradients to either."""
        self._set_training(True)
        bound = self.criterion_(*critic_values(self.module_, *batch))
        loss = -bound.mean()
        loss.backward()
        return {"loss": loss, "y_pred": bound}


def critic_values(critic, inputs, z):
    """A critic at pairs (x_i, z_i), and at the pairs of each x with the code of another row."""
    # Each row with the next of a random circle, so that none meets itself. Held-out rows come in
    # their own order, in which neighbours may be alike. The circle is the same for every batch.
    circle = torch.randperm(len(z), generator=torch.Generator().manual_seed(CIRCLE_SEED))
    other = torch.empty_like(circle)
    other[circle] = circle.roll(1)
    return critic(inputs, z), critic(inputs, z[other.to(z.device)])


class TrainCritic(Callback):
    """Give a critic one step on the same codes after each step of the model.

    Parameters
    ----------
    critic : CriticNet
        Initialised.
    """

    def __init__(self, critic):
        self.critic = critic

    def on_batch_end(self, net, training=False, passed=None, **kwargs):
        """Train the critic on the batch that the model was trained on."""
        if training:
            self.critic.train_step((passed.inputs.detach(), passed.z.detach()))

    def slow_down(self, factor):
        """Multiply the critic's rate."""
        slow_down_optimizer(self.critic.optimizer_, factor)

    def state_dict(self):
        """The critic's weights and optimizer."""
        return training_state(self.critic)

    def load_state_dict(self, state):
        """Put them back."""
        restore(self.critic, state)

    def _go_on_from(self, before):
        """Take over what another `TrainCritic` has learnt, unless the critic's sizes were set."""
        own, other = self.critic, before.critic
        shapes = [[w.shape for w in net.module_.parameters()] for net in (own, other)]
        if shapes[0] == shapes[1]:
            own.module_.load_state_dict(other.module_.state_dict())
            take_over(own.optimizer_, other.optimizer_)
