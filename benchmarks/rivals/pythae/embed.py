"""pythae's VAE of prepared columns. `benchmarks.rivals` runs it in this folder's environment."""

import logging

import torch
from exchange import run
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from torch import nn

LATENT_DIM = 32
BATCH_SIZE, EPOCHS = 64, 100  # pythae's defaults, like its optimiser
MIN_UPDATES = 3000  # twice those of CMIMEncoder; 100 epochs of a small table would be fewer


class Decoder(BaseDecoder):
    """pythae's MLP without its last sigmoid, because standardised columns leave [0, 1]."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(LATENT_DIM, 512), nn.ReLU(), nn.Linear(512, width))

    def forward(self, z):
        return ModelOutput(reconstruction=self.layers(z))


def fit(method, X, seed, folder):
    torch.manual_seed(seed)
    width = X.shape[1]
    model = VAE(VAEConfig(input_dim=(width,), latent_dim=LATENT_DIM), decoder=Decoder(width))
    n_epochs = max(EPOCHS, -(-MIN_UPDATES // -(-len(X) // BATCH_SIZE)))
    length = {"per_device_train_batch_size": BATCH_SIZE, "num_epochs": n_epochs}
    config = BaseTrainerConfig(output_dir=str(folder / "pythae"), seed=seed, no_cuda=True, **length)
    TrainingPipeline(model=model, training_config=config)(torch.as_tensor(X, dtype=torch.float32))
    return model.eval()


@torch.no_grad()
def transform(model, X):
    return model.encoder(torch.as_tensor(X, dtype=torch.float32)).embedding.numpy()


def save(model, path):
    torch.save(model.state_dict(), path)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    run(fit, transform, save)
