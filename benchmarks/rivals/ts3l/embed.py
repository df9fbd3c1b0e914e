"""Self-supervised methods of ts3l (TabularS3L), their first phase alone: no labels.

Run by `benchmarks.rivals` in this folder's own environment. Settings are those of the package's
quick starts, which it documents for each method, but for two:

- Heads are 256 wide, the default of the configurations. The quick starts' 1024 is outside the
  range that the authors search in their own benchmark (16 to 512).
- Training goes on for `MIN_UPDATES` at least: the quick starts' 10 or 20 epochs would be a few
  hundred updates on small tables.

SubTab is the package's: its subsets leave out some of the last columns.
"""

import logging
import warnings

import numpy as np
import pandas as pd
import torch
from exchange import run
from pytorch_lightning import Callback, Trainer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from ts3l import pl_modules
from ts3l.utils import TS3LDataModule, get_category_cardinality
from ts3l.utils.backbone_utils import MLPBackboneConfig
from ts3l.utils.dae_utils import DAECollateFN, DAEConfig, DAEDataset
from ts3l.utils.embedding_utils import IdentityEmbeddingConfig
from ts3l.utils.scarf_utils import SCARFConfig, SCARFDataset
from ts3l.utils.subtab_utils import SubTabConfig, SubTabDataset
from ts3l.utils.vime_utils import VIMEConfig, VIMEDataset

BATCH_SIZE = 128  # quick starts
EPOCHS = {"SCARF": 10, "VIME": 20, "SubTab": 20, "DAE": 20}  # quick starts
MIN_UPDATES = 3000  # what CMIMEncoder takes
TRANSFORM_ROWS = 1024
MISSING = "missing"

# Quick starts.
SETTINGS = {
    "SCARF": {"corruption_rate": 0.6, "dropout_rate": 0.04, "head_depth": 2},
    "VIME": {"alpha1": 2.0, "alpha2": 2.0, "p_m": 0.2},
    # Its projections have unit length: the default dot product is the quick start's cosine.
    "SubTab": {
        "tau": 1.0,
        "n_subsets": 4,
        "overlap_ratio": 0.75,
        "mask_ratio": 0.1,
        "noise_type": "Swap",
        "noise_level": 0.1,
    },
    "DAE": {"noise_type": "Swap", "noise_ratio": 0.3},
}
CONFIGS = {"SCARF": SCARFConfig, "VIME": VIMEConfig, "SubTab": SubTabConfig, "DAE": DAEConfig}


class Columns:
    """Columns as the package's examples prepare them: codes of categories, numbers in [0, 1]."""

    def fit(self, X):
        self.numeric = [c for c in X if pd.api.types.is_numeric_dtype(X[c])]
        self.categorical = [c for c in X if c not in self.numeric]
        self.levels, self.unknown = {}, {}
        for name in self.categorical:
            values = X[name].astype(object).where(X[name].notna(), MISSING)
            counts = values.value_counts()
            self.levels[name] = {level: code for code, level in enumerate(sorted(counts.index))}
            instead = MISSING if MISSING in counts else counts.index[0]
            self.unknown[name] = self.levels[name][instead]
        self.scaler = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True), MinMaxScaler()
        )
        if self.numeric:
            self.scaler.fit(self._numbers(X))
        return self

    def _numbers(self, X):
        return X[self.numeric].to_numpy(float, na_value=np.nan)

    def transform(self, X):
        codes = {
            name: X[name]
            .astype(object)
            .where(X[name].notna(), MISSING)
            .map(self.levels[name])
            .fillna(self.unknown[name])
            for name in self.categorical
        }
        numbers = self.scaler.transform(self._numbers(X)).T if self.numeric else []
        columns = {**codes, **dict(zip(self.numeric, numbers, strict=True))}
        return pd.DataFrame(columns).astype("float32")


class Forget(Callback):
    """Drops the losses of an epoch, which the package keeps, graphs and all, for a validation."""

    def on_train_epoch_end(self, trainer, module):
        module.first_phase_step_outputs.clear()


class PairwiseLoss(torch.nn.Module):
    """The package's NTXentLoss of unit vectors, by a matrix product.

    The package broadcasts rows against rows, and takes hundreds of times as long. The value is the
    same; so is the gradient of the network, which normalises just before.
    """

    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, z_i, z_j):
        z = torch.cat([z_i, z_j])
        n_rows = len(z)
        logits = (z @ z.T / self.temperature).fill_diagonal_(-torch.inf)
        other_view = torch.arange(n_rows).roll(n_rows // 2)
        return torch.nn.functional.cross_entropy(logits, other_view)


def datamodule(method, X, columns, config):
    named = {"continuous_cols": columns.numeric, "category_cols": columns.categorical}
    if method == "SCARF":
        data = SCARFDataset(X, config=config, **named)
    elif method == "VIME":
        data = VIMEDataset(X, config=config, **named)
    elif method == "SubTab":
        data = SubTabDataset(X, **named)
    else:
        data = DAEDataset(X, **named)
    # Batch normalisation fails on a last batch of one row.
    return TS3LDataModule(
        data,
        data,
        min(BATCH_SIZE, len(X)),
        train_sampler="random",
        train_collate_fn=DAECollateFN(config) if method == "DAE" else None,
        n_jobs=0,
        drop_last=True,
    )


def fit(method, X, seed, folder):
    columns = Columns().fit(X)
    prepared = columns.transform(X)
    settings = dict(SETTINGS[method])
    if method in ("VIME", "DAE"):
        settings["cat_cardinality"] = get_category_cardinality(prepared, columns.categorical)
        settings["num_continuous"] = len(columns.numeric)
    if method == "SubTab":
        settings["n_subsets"] = min(settings["n_subsets"], prepared.shape[1])
    embedding = IdentityEmbeddingConfig(input_dim=prepared.shape[1])
    config = CONFIGS[method](
        # Task, loss and output are the second phase's, which is never entered.
        task="classification",
        loss_fn="CrossEntropyLoss",
        output_dim=2,
        embedding_config=embedding,
        backbone_config=MLPBackboneConfig(input_dim=embedding.output_dim),
        random_seed=seed,
        **settings,
    )
    module = getattr(pl_modules, f"{method}Lightning")(config)
    if method == "SCARF":
        module.contrastive_loss = PairwiseLoss(config.tau)
    n_batches = max(1, len(X) // BATCH_SIZE)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=max(EPOCHS[method], -(-MIN_UPDATES // n_batches)),
        limit_val_batches=0,
        callbacks=[Forget()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, datamodule(method, prepared, columns, config))
    network = module.model.eval()
    if method == "SubTab":
        # The mean over the subsets is the representation; the package would go on adding noise.
        network.set_second_phase()
        network.mask_ratio = 0.0
    return method, columns, network


@torch.no_grad()
def transform(model, X):
    method, columns, network = model
    rows = torch.from_numpy(columns.transform(X)[columns.categorical + columns.numeric].to_numpy())
    parts = []
    for part in rows.split(TRANSFORM_ROWS):
        if method == "SubTab":
            parts.append(network(part, return_embeddings=True)[1])
        else:
            parts.append(network.encoder(network.embedding_module(part)))
    return torch.cat(parts).numpy()


def save(model, path):
    torch.save(model[2].state_dict(), path)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    # On loaders without workers, and on losses of a loop without validation.
    warnings.simplefilter("ignore")
    run(fit, transform, save)
