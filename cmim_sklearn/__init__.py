"""Features without labels from mixed tables: cMIM as a scikit-learn transformer.

`CMIMEncoder` learns them from a table, as its siblings do by other losses; `InformativeEmbedding`
reads them from an encoder-decoder that you have. With a `Checkpoint` a long fit goes on after it
was killed. ``mutual_information`` and ``geometry`` measure codes and features, ``display`` draws
them. ``onnx.register`` teaches skl2onnx the encoders, and ``archive.EncoderFileError`` is what
`load` raises. To train a network of your own on the same loss, these modules are public, too:

- ``objectives``: `mim`, `cmim` and the contrastive term alone, from a `Pass` to terms in nats;
- ``latents``: posteriors q(z | x) and the prior that a `Pass` holds;
- ``networks``: the `MLP` that both halves are by default.

In training a posterior is called with the encoder's outputs, and z drawn from what it returns; the
loss is ``sum(cmim(Pass(z, posterior, standard_normal(z), log_px)).values()).mean()``. Later, codes
are the mean of its ``inference``. All else may change between releases.
"""

from cmim_sklearn._version import __version__
from cmim_sklearn.amdim import AMDIMEncoder
from cmim_sklearn.checkpoint import Checkpoint
from cmim_sklearn.contrastive import (
    BarlowTwinsEncoder,
    InfoNCEEncoder,
    SuperInfoEncoder,
    VICRegEncoder,
)
from cmim_sklearn.embedding import InformativeEmbedding
from cmim_sklearn.encoder import CMIMEncoder
from cmim_sklearn.siblings import AEEncoder, InfoMaxVAEEncoder, MIMEncoder, VAEEncoder
from cmim_sklearn.views import Corruption

__all__ = [
    "AEEncoder",
    "AMDIMEncoder",
    "BarlowTwinsEncoder",
    "CMIMEncoder",
    "Checkpoint",
    "Corruption",
    "InfoMaxVAEEncoder",
    "InfoNCEEncoder",
    "InformativeEmbedding",
    "MIMEncoder",
    "SuperInfoEncoder",
    "VAEEncoder",
    "VICRegEncoder",
    "__version__",
]
