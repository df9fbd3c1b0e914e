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

from cmim_sklearn._encoders.amdim import AMDIMEncoder
from cmim_sklearn._encoders.autoencoder import AEEncoder
from cmim_sklearn._encoders.barlow_twins import BarlowTwinsEncoder
from cmim_sklearn._encoders.cmim import CMIMEncoder
from cmim_sklearn._encoders.infomax_vae import InfoMaxVAEEncoder
from cmim_sklearn._encoders.infonce import InfoNCEEncoder
from cmim_sklearn._encoders.informative import InformativeEmbedding
from cmim_sklearn._encoders.mim import MIMEncoder
from cmim_sklearn._encoders.super_info import SuperInfoEncoder
from cmim_sklearn._encoders.vae import VAEEncoder
from cmim_sklearn._encoders.vicreg import VICRegEncoder
from cmim_sklearn._models.two_view import Corruption
from cmim_sklearn._training.checkpoint import Checkpoint
from cmim_sklearn._version import __version__

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
