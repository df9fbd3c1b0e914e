"""
Features from your own PyTorch model
====================================

This example shows how to read features from a trained PyTorch auto-encoder with
``InformativeEmbedding``, and how to test whether they owe anything to training. A linear model of
digits is better on the last hidden layer of the decoder than on the latent code: 0.97 against
0.93. But a decoder with random weights does as well (0.96). The gain comes from a wide non-linear
map, not from training the decoder. With all labels the pixels are as good (0.97). The module is
neither trained nor changed.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from cmim_sklearn import InformativeEmbedding

# %%
# Images of digits, and an auto-encoder in plain PyTorch. Its latent code has eight components.

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)


def train(seed):
    torch.manual_seed(seed)
    model = nn.ModuleDict(
        {
            "encoder": nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8)),
            "decoder": nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64)),
        }
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rows = torch.from_numpy(X_train)
    for _ in range(100):
        for batch in rows[torch.randperm(len(rows))].split(64):
            loss = nn.functional.mse_loss(model["decoder"](model["encoder"](batch)), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


# %%
# Four sets of features: the latent code, the last hidden layer of the decoder, the same layer
# with random weights as a control, and the pixels.


def without_training(model):
    model = copy.deepcopy(model)
    for layer in model["decoder"]:
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return model


def features(model):
    return {
        "code": InformativeEmbedding(model, layer=lambda code: code),
        "informative": InformativeEmbedding(model),
        "random decoder": InformativeEmbedding(without_training(model)),
        "pixels": FunctionTransformer(),
    }


# %%
# A linear model on each set, with all labels and with ten labels per digit, for three seeds.

rng = np.random.RandomState(0)
few = np.concatenate([rng.permutation(np.flatnonzero(y_train == d))[:10] for d in range(10)])
scores = []
for seed in range(3):
    for name, embedding in features(train(seed)).items():
        for labels, rows in {"all labels": slice(None), "ten labels per digit": few}.items():
            probe = make_pipeline(embedding, StandardScaler(), LogisticRegression(max_iter=2000))
            accuracy = probe.fit(X_train[rows], y_train[rows]).score(X_test, y_test)
            scores.append({"features": name, "labels": labels, "accuracy": accuracy})
table = pd.DataFrame(scores).pivot_table("accuracy", "features", "labels", sort=False)
print(table.round(3).to_string())

# %%
# Mean accuracy over the seeds.

figure, axis = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for labels, marker, colour in zip(table, "os", ["#0072B2", "#E69F00"], strict=True):
    axis.plot(table[labels], table.index, marker, color=colour, label=labels)
axis.grid(axis="y", alpha=0.4)
axis.invert_yaxis()
axis.margins(y=0.15)
axis.set(title="digits: features of an auto-encoder", xlabel="accuracy of a logistic regression")
axis.legend(loc="lower center")
plt.show()
