"""Seconds that epochs of pythae's VAE take, for `benchmarks.speed`, in this folder's environment.

    python epochs.py FOLDER

FOLDER holds ``rows.npy``, the rows as the network takes them, and ``sizes.json``. Prints one line
of JSON, the last of its output: seconds of processors ("cpu") and of the clock ("wall").
"""

import json
import logging
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import nn


def hidden(widths):
    """Layers of the kind that our own networks have."""
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.SiLU()) for a, b in pairwise(widths))
    )


class Encoder(BaseEncoder):
    def __init__(self, width, sizes, latent_dim):
        super().__init__()
        self.body = hidden([width, *sizes])
        self.mean = nn.Linear(sizes[-1], latent_dim)
        self.log_variance = nn.Linear(sizes[-1], latent_dim)

    def forward(self, x):
        h = self.body(x)
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))


class Decoder(BaseDecoder):
    def __init__(self, width, sizes, latent_dim):
        super().__init__()
        self.layers = nn.Sequential(hidden([latent_dim, *sizes]), nn.Linear(sizes[-1], width))

    def forward(self, z):
        return ModelOutput(reconstruction=self.layers(z))


class Clock(TrainingCallback):
    """Times epochs alone: neither the checks before the first nor the files after the last."""

    def on_epoch_begin(self, training_config, **kwargs):
        if not hasattr(self, "start"):
            self.start = time.process_time(), time.perf_counter()

    def on_epoch_end(self, training_config, **kwargs):
        self.end = time.process_time(), time.perf_counter()


def main(folder):
    logging.disable(logging.INFO)
    sizes = json.loads((folder / "sizes.json").read_text())
    torch.set_num_threads(sizes["threads"])
    torch.manual_seed(0)
    rows = torch.from_numpy(np.load(folder / "rows.npy"))
    shape = rows.shape[1], sizes["hidden_layer_sizes"], sizes["n_components"]
    config = VAEConfig(input_dim=(shape[0],), latent_dim=shape[2])
    model = VAE(config, encoder=Encoder(*shape), decoder=Decoder(*shape))
    training = BaseTrainerConfig(
        output_dir=str(folder / "pythae"),
        per_device_train_batch_size=sizes["batch_size"],
        num_epochs=sizes["epochs"],
        optimizer_cls="AdamW",
        learning_rate=sizes["learning_rate"],
        no_cuda=True,
    )
    clock = Clock()
    TrainingPipeline(model=model, training_config=training)(rows, callbacks=[clock])
    cpu, wall = (end - start for start, end in zip(clock.start, clock.end, strict=True))
    print(json.dumps({"cpu": cpu, "wall": wall}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
