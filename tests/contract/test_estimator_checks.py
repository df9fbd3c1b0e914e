"""scikit-learn's own checks, over the variants that change the path through fit or transform."""

from sklearn.utils.estimator_checks import parametrize_with_checks

import cmim_sklearn
from cmim_sklearn import CMIMEncoder, VAEEncoder
from cmim_sklearn._models.features import EMBEDDINGS

QUICK = {"max_iter": 2, "hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0}

VARIANTS = [
    CMIMEncoder(max_iter=2, random_state=0),
    *(CMIMEncoder(**QUICK, embedding=name) for name in EMBEDDINGS),
    *(CMIMEncoder(**QUICK, posterior=name) for name in ("learned", "fixed")),
    *(CMIMEncoder(**QUICK, numeric_scaling=name) for name in ("standard", None)),
    CMIMEncoder(**QUICK, early_stopping=True),
    CMIMEncoder(**QUICK, latent_prior="normal", input_masking=0.2),
    CMIMEncoder(**QUICK | {"hidden_layer_sizes": ()}),
    *(
        getattr(cmim_sklearn, name)(**QUICK)
        for name in cmim_sklearn.__all__
        if name.endswith("Encoder") and name != "CMIMEncoder"
    ),
    VAEEncoder(**QUICK, beta=0.0, mmd_weight=10.0, latent_prior="mixture"),
]


@parametrize_with_checks(VARIANTS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
