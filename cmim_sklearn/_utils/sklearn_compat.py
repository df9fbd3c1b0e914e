"""Parts of scikit-learn that not every supported version has."""

import functools

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:
        """Mixin without effect, for versions of scikit-learn that have no callbacks."""

        def _init_callback_context(self, max_subtasks):
            """Return None, because this version of scikit-learn has no callbacks."""
            return None

    def with_callbacks(method):
        """Call the method through one more frame, as scikit-learn's own decorator does."""

        @functools.wraps(method)
        def called(*args, **kwargs):
            return method(*args, **kwargs)

        return called


def has_callbacks(estimator):
    """Whether an estimator reports to callbacks, its own or those of a meta-estimator."""
    return bool(getattr(estimator, "_skl_callbacks", None))


__all__ = ["CallbackSupportMixin", "has_callbacks", "with_callbacks"]
