"""Features of mixed-type tables without labels: cMIM as a scikit-learn transformer.

`CMIMEncoder` learns features from a table; its siblings do so with other losses.
`CMIMClassifier` and `CMIMRegressor` predict labels from features that were learned with them.
`fit_together` fits many encoders at once.
`InformativeEmbedding` reads features from a trained encoder-decoder. `Checkpoint` lets a long fit
be resumed. `load` raises an `EncoderFileError` if a file is not valid.

The public modules are:

- ``display``: plots of fitted encoders;
- ``model_selection``: scikit-learn's searches, which train all candidates at once on a GPU;
- ``mutual_information`` and ``geometry``: measures of codes and features;
- ``onnx``: `register` for skl2onnx;
- ``objectives``: `mim`, `cmim` and the contrastive term, from a `Pass` to terms in nats;
- ``latents``: posteriors q(z | x) and the prior that a `Pass` holds;
- ``networks``: the `MLP` that encoder and decoder are by default;
- ``archive``: `EncoderFileError`, which this module also has.

``objectives``, ``latents`` and ``networks`` are for training a custom network on the same loss. In
training, a posterior object is called with the outputs of the encoder. It returns a distribution,
from which z is sampled. The loss is ``sum(cmim(Pass(z, posterior, standard_normal(z),
log_px)).values()).mean()``. After training, the code of a row is the mean of what the posterior's
``inference`` returns. Everything else is private and may change between releases.
"""

from cmim_sklearn._encoders.amdim import AMDIMEncoder
from cmim_sklearn._encoders.autoencoder import AEEncoder
from cmim_sklearn._encoders.barlow_twins import BarlowTwinsEncoder
from cmim_sklearn._encoders.classifier import CMIMClassifier
from cmim_sklearn._encoders.cmim import CMIMEncoder
from cmim_sklearn._encoders.infomax_vae import InfoMaxVAEEncoder
from cmim_sklearn._encoders.infonce import InfoNCEEncoder
from cmim_sklearn._encoders.informative import InformativeEmbedding
from cmim_sklearn._encoders.mim import MIMEncoder
from cmim_sklearn._encoders.regressor import CMIMRegressor
from cmim_sklearn._encoders.super_info import SuperInfoEncoder
from cmim_sklearn._encoders.together import fit_together
from cmim_sklearn._encoders.vae import VAEEncoder
from cmim_sklearn._encoders.vicreg import VICRegEncoder
from cmim_sklearn._models.two_view import Corruption
from cmim_sklearn._training.checkpoint import Checkpoint
from cmim_sklearn._utils.archive import EncoderFileError
from cmim_sklearn._version import __version__

__all__ = [
    "AEEncoder",
    "AMDIMEncoder",
    "BarlowTwinsEncoder",
    "CMIMClassifier",
    "CMIMEncoder",
    "CMIMRegressor",
    "Checkpoint",
    "Corruption",
    "EncoderFileError",
    "InfoMaxVAEEncoder",
    "InfoNCEEncoder",
    "InformativeEmbedding",
    "MIMEncoder",
    "SuperInfoEncoder",
    "VAEEncoder",
    "VICRegEncoder",
    "__version__",
    "fit_together",
]

# Pickles, reprs and documentation name the public path of a class.
for _name in set(__all__) - {"__version__"}:
    globals()[_name].__module__ = __name__
del _name
