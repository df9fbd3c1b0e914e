"""Callbacks of scikit-learn 1.9 and later, with stand-ins for earlier versions."""

import functools

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:
        """Empty base class."""

    def with_callbacks(method):
        """Call the method from a wrapper, so that its stack is as deep as in scikit-learn 1.9."""

        @functools.wraps(method)
        def wrapper(*args, **kwargs):
            return method(*args, **kwargs)

        return wrapper


__all__ = ["CallbackSupportMixin", "with_callbacks"]
