"""Do informative embeddings beat the code, for models that others built and trained?

    python -m benchmarks.informative [--out DIR] [--models autoencoder T5] [--seeds 0 1 2 3 4]

Four models are trained on scikit-learn's digits, without labels: a plain auto-encoder, one with
convolutions, a VAE of pythae's, and a small T5 that reads digits as text (64 characters of four
shades, 70 % of them hidden from its encoder in training). A logistic regression on standardised
features then reads the digit from (a) the code, (b) the informative embedding, and (c) that of a
decoder with random weights behind the same encoder, the control; and from the pixels. 70/30 splits;
all labels of the training part, and ten of each digit.
"""

import argparse
import copy
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from cmim_sklearn import InformativeEmbedding

LATENT_WIDTH = 8
LABELS_PER_DIGIT = 10
SHADES, HIDDEN_SHARE = "0123", 0.7


class AutoEncoder(nn.Module):
    """Two halves, as anybody would write them."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


def autoencoder():
    return AutoEncoder(
        nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, LATENT_WIDTH)),
        nn.Sequential(nn.Linear(LATENT_WIDTH, 256), nn.ReLU(), nn.Linear(256, 64), nn.Sigmoid()),
    )


def convolutional():
    return AutoEncoder(
        nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, LATENT_WIDTH),
        ),
        nn.Sequential(
            nn.Linear(LATENT_WIDTH, 128), nn.Unflatten(1, (32, 2, 2)), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1),
            nn.Sigmoid(), nn.Flatten(),
        ),
    )  # fmt: skip


def pythae_vae():
    from pythae.models import VAE, VAEConfig

    return VAE(VAEConfig((64,), LATENT_WIDTH, reconstruction_loss="bce"))


def t5():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=len(SHADES) + 3, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
        dropout_rate=0.0, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def tokenizer():
    """One token a character; 0 is padding, 1 the end, 2 a hidden character."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", "<mask>", *SHADES])}
    characters = Tokenizer(models.WordLevel(vocabulary, unk_token="<mask>"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=characters, pad_token="<pad>")


def as_text(pixels):
    """Digits (n, 64) of 0 to 1 as strings of 64 shades."""
    shades = np.minimum(pixels * len(SHADES), len(SHADES) - 1).astype(int)
    return np.array(["".join(SHADES[s] for s in row) for row in shades], dtype=object)


def image_loss(model, batch, generator):
    if hasattr(model, "model_config"):  # pythae's models bring their own loss
        return model({"data": batch}).loss
    return nn.functional.binary_cross_entropy(model.decoder(model.encoder(batch)), batch)


def text_loss(model, batch, generator):
    hidden = torch.rand(batch.shape, generator=generator) < HIDDEN_SHARE
    return model(input_ids=batch.masked_fill(hidden, 2), labels=batch).loss


MODELS = {
    # name: what makes it, its loss, updates, batch size, peak rate
    "autoencoder": (autoencoder, image_loss, 2000, 128, 3e-3),
    "convolutional": (convolutional, image_loss, 2000, 128, 3e-3),
    "pythae VAE": (pythae_vae, image_loss, 2000, 128, 3e-3),
    "T5": (t5, text_loss, 800, 32, 4e-3),
}


def train(model, data, loss_of, updates, batch_size, rate, seed):
    """Train a model on rows of a tensor."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=updates)
    for _ in range(updates):
        batch = data[torch.randint(len(data), (batch_size,), generator=generator)]
        loss = loss_of(model, batch, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def embeddings_of(name, model, fresh):
    """The transformers to compare, by name."""
    control = copy.deepcopy(model)
    control.decoder = fresh.decoder

    def embedding(model, **params):
        if name == "T5":
            made = InformativeEmbedding.from_seq2seq(model, tokenizer())
            return made.set_params(**params)
        return InformativeEmbedding(model, **params)

    compared = {
        "code": embedding(model, layer=lambda code: code),
        "informative": embedding(model),
        "random decoder": embedding(control),
    }
    if name == "convolutional":
        compared["informative, mean over places"] = embedding(model, pooling=over_places)
    return compared


def over_places(hidden, batch):
    return hidden.mean((2, 3))


def probe(name, seed, updates=None):
    """Scores of one model and seed, as a list of dicts."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    make, loss_of, planned, batch_size, rate = MODELS[name]
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    parts = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    X_train, X_test, y_train, y_test = parts
    few = np.concatenate(
        [np.flatnonzero(y_train == digit)[:LABELS_PER_DIGIT] for digit in range(10)]
    )
    torch.manual_seed(seed)
    fresh, model = make(), make()
    start = time.perf_counter()
    inputs = as_text(X_train) if name == "T5" else X_train
    data = tokenizer()(list(inputs), return_tensors="pt")["input_ids"] if name == "T5" else inputs
    train(model, torch.as_tensor(data), loss_of, updates or planned, batch_size, rate, seed)
    seconds = time.perf_counter() - start
    features = {"pixels": (X_train, X_test)}
    for kind, embedding in embeddings_of(name, model, fresh).items():
        rows = (inputs, as_text(X_test) if name == "T5" else X_test)
        features[kind] = tuple(embedding.transform(part) for part in rows)
    results = []
    for kind, (F_train, F_test) in features.items():
        for labels, rows in (("all", slice(None)), (LABELS_PER_DIGIT * 10, few)):
            classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            score = classifier.fit(F_train[rows], y_train[rows]).score(F_test, y_test)
            results.append(
                {
                    "model": name, "seed": seed, "features": kind, "width": F_train.shape[1],
                    "labels": labels, "accuracy": score, "train_s": seconds,
                }
            )  # fmt: skip
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="folder for informative.csv")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    rows = []
    for name in args.models:
        for seed in args.seeds:
            rows += probe(name, seed)
            print(f"{name}, seed {seed}: {rows[-1]['train_s']:.0f} s to train", flush=True)
    results = pd.DataFrame(rows)
    by_kind = results.groupby(["model", "features", "width", "labels"], sort=False)["accuracy"]
    table = by_kind.agg(["mean", "std"]).round(3).unstack("labels")
    print("\nTest accuracy, mean and deviation over seeds\n" + table.to_string())
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        results.to_csv(args.out / "informative.csv", index=False)


if __name__ == "__main__":
    main()
