"""Displays of fitted encoders: training curves, latent map, reconstructions and sample quality.

They follow scikit-learn's displays. ``from_estimator`` computes the data and draws them; ``plot``
draws them again, for example in other axes. Attributes that end in ``_`` hold the matplotlib
artists. matplotlib is imported only when a display draws.

Names of columns and levels are drawn literally, in one line; long ones are cut. matplotlib warns of
characters that its font lacks: set ``matplotlib.rcParams["font.family"]`` to fonts that have them.
"""

from cmim_sklearn.display._latent_space import LatentSpaceDisplay
from cmim_sklearn.display._reconstruction import ReconstructionDisplay
from cmim_sklearn.display._sample_quality import SampleQualityDisplay
from cmim_sklearn.display._training import TrainingDisplay

__all__ = ["LatentSpaceDisplay", "ReconstructionDisplay", "SampleQualityDisplay", "TrainingDisplay"]

# Pickles, reprs and documentation name the public path of a class.
for _name in set(__all__):
    globals()[_name].__module__ = __name__
del _name
