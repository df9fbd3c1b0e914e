"""Self-supervised methods of ts3l (TabularS3L): their first phase, without labels.

`benchmarks.rivals` runs it in this folder's environment. Settings are those of the package's quick
starts, except for two. Heads are 256 wide, the default of the configurations, because the quick
starts' 1024 is outside the range of the authors' benchmark (16 to 512). Training takes at least
`MIN_UPDATES`, because 10 or 20 epochs of a small table are a few hundred updates. The package's
SubTab never shows some of the last columns to its encoder.
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

BATCH_SIZE, TRANSFORM_ROWS = 128, 1024
MIN_UPDATES = 3000  # twice those of CMIMEncoder
MISSING = "missing"
METHODS = {
    # name: configuration, dataset, epochs, settings
    "SCARF": (SCARFConfig, SCARFDataset, 10, {
        "corruption_rate": 0.6, "dropout_rate": 0.04, "head_depth": 2,
    }),
    "VIME": (VIMEConfig, VIMEDataset, 20, {"alpha1": 2.0, "alpha2": 2.0, "p_m": 0.2}),
    # Projections have unit length: the default dot product is the quick start's cosine.
    "SubTab": (SubTabConfig, SubTabDataset, 20, {
        "tau": 1.0, "n_subsets": 4, "overlap_ratio": 0.75, "mask_ratio": 0.1,
        "noise_type": "Swap", "noise_level": 0.1,
    }),
    "DAE": (DAEConfig, DAEDataset, 20, {"noise_type": "Swap", "noise_ratio": 0.3}),
}  # fmt: skip


class Columns:
    """Columns as in the package's examples: codes of categories, numbers in [0, 1]."""

    def fit(self, X):
        self.numeric = [c for c in X if pd.api.types.is_numeric_dtype(X[c])]
        self.categorical = [c for c in X if c not in self.numeric]
        self.levels, self.unknown = {}, {}
        for name in self.categorical:
            counts = self._words(X[name]).value_counts()
            self.levels[name] = {level: code for code, level in enumerate(sorted(counts.index))}
            instead = MISSING if MISSING in counts else counts.index[0]
            self.unknown[name] = self.levels[name][instead]
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        self.scaler = make_pipeline(imputer, MinMaxScaler())
        if self.numeric:
            self.scaler.fit(X[self.numeric].to_numpy(float, na_value=np.nan))
        return self

    def _words(self, column):
        return column.astype(object).where(column.notna(), MISSING)

    def transform(self, X):
        columns = {
            name: self._words(X[name]).map(levels).fillna(self.unknown[name])
            for name, levels in self.levels.items()
        }
        if self.numeric:
            numbers = self.scaler.transform(X[self.numeric].to_numpy(float, na_value=np.nan))
            columns |= dict(zip(self.numeric, numbers.T, strict=True))
        return pd.DataFrame(columns).astype("float32")


class Forget(Callback):
    """Drop the losses of an epoch, which the package keeps, with their graphs."""

    def on_train_epoch_end(self, trainer, module):
        module.first_phase_step_outputs.clear()


class PairwiseLoss(torch.nn.Module):
    """NTXentLoss of the package for unit vectors, by a matrix product: same value, much faster."""

    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, z_i, z_j):
        z = torch.cat([z_i, z_j])
        logits = (z @ z.T / self.temperature).fill_diagonal_(-torch.inf)
        other_view = torch.arange(len(z)).roll(len(z) // 2)
        return torch.nn.functional.cross_entropy(logits, other_view)


def datamodule(method, X, columns, config):
    named = {"continuous_cols": columns.numeric, "category_cols": columns.categorical}
    named |= {"config": config} if method in ("SCARF", "VIME") else {}
    data = METHODS[method][1](X, **named)
    collate = DAECollateFN(config) if method == "DAE" else None
    # Batch normalisation fails on a last batch of one row.
    options = {"train_sampler": "random", "n_jobs": 0, "drop_last": True}
    size = min(BATCH_SIZE, len(X))
    return TS3LDataModule(data, data, size, train_collate_fn=collate, **options)


def fit(method, X, seed, folder):
    columns = Columns().fit(X)
    prepared = columns.transform(X)
    make_config, _, epochs, settings = METHODS[method]
    settings = dict(settings)
    if method in ("VIME", "DAE"):
        settings["cat_cardinality"] = get_category_cardinality(prepared, columns.categorical)
        settings["num_continuous"] = len(columns.numeric)
    if method == "SubTab":
        settings["n_subsets"] = min(settings["n_subsets"], prepared.shape[1])
    embedding = IdentityEmbeddingConfig(input_dim=prepared.shape[1])
    backbone = MLPBackboneConfig(input_dim=embedding.output_dim)
    settings |= {"embedding_config": embedding, "backbone_config": backbone, "random_seed": seed}
    # Task, loss and output belong to the second phase, which is not used.
    config = make_config(
        task="classification", loss_fn="CrossEntropyLoss", output_dim=2, **settings
    )
    module = getattr(pl_modules, f"{method}Lightning")(config)
    if method == "SCARF":
        module.contrastive_loss = PairwiseLoss(config.tau)
    n_epochs = max(epochs, -(-MIN_UPDATES // max(1, len(X) // BATCH_SIZE)))
    where = {"accelerator": "cpu", "default_root_dir": folder, "limit_val_batches": 0}
    outputs = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet = dict.fromkeys(outputs, False)
    trainer = Trainer(max_epochs=n_epochs, callbacks=[Forget()], **where, **quiet)
    trainer.fit(module, datamodule(method, prepared, columns, config))
    network = module.model.eval()
    if method == "SubTab":
        # The representation is the mean over subsets; without this the package adds noise.
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
    warnings.simplefilter("ignore")  # loaders without workers, a loop without validation
    run(fit, transform, save)
