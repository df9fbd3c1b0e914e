"""Learners, one file each with its loss, and the base classes that they share."""

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

__all__ = [
    "AEEncoder",
    "AMDIMEncoder",
    "BarlowTwinsEncoder",
    "CMIMEncoder",
    "InfoMaxVAEEncoder",
    "InfoNCEEncoder",
    "InformativeEmbedding",
    "MIMEncoder",
    "SuperInfoEncoder",
    "VAEEncoder",
    "VICRegEncoder",
]
