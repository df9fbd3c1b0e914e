"""Error of encoder files that cannot be read."""

from cmim_sklearn._utils.archive import EncoderFileError

__all__ = ["EncoderFileError"]
