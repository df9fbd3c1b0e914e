"""Pictures of fitted encoders, as scikit-learn's displays are: losses, codes, rebuilt cells, draws.

Each has ``from_estimator``, which computes and draws, and ``plot``, which draws again; what was
drawn is kept in attributes that end in ``_``. matplotlib is imported when something is drawn.

A column is held as numbers (n,), NaN where missing: its values, or positions in a list of levels.
"""

from cmim_sklearn.display._latent_space import LatentSpaceDisplay
from cmim_sklearn.display._reconstruction import ReconstructionDisplay
from cmim_sklearn.display._sample_quality import SampleQualityDisplay
from cmim_sklearn.display._training import TrainingDisplay

__all__ = ["LatentSpaceDisplay", "ReconstructionDisplay", "SampleQualityDisplay", "TrainingDisplay"]
