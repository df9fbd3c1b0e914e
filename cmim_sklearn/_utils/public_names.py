"""Errors about the arguments of a call that name the public class of an inherited method."""

import inspect
from contextlib import contextmanager

HINTS = {
    "'sample_weight'": "Rows have no weights. Pass rows sampled in proportion to weights.",
}
"""What to do instead, by the name of an argument that no method takes."""


@contextmanager
def public_names(method, args):
    """Replace the class in Python's error about the arguments of a method.

    Python names the class that defines the method, which may be private.

    Parameters
    ----------
    method : function
    args : tuple
        Positional arguments of the call; the first is the object or the class.
    """
    try:
        yield
    except TypeError as error:
        name, text = inspect.unwrap(method).__qualname__, str(error)
        if not args or "." not in name or not text.startswith(f"{name}() "):
            raise
        owner = args[0] if isinstance(args[0], type) else type(args[0])
        hints = [f". {hint}" for argument, hint in HINTS.items() if text.endswith(argument)]
        text = text.removeprefix(name) + "".join(hints)
        raise TypeError(f"{owner.__name__}.{method.__name__}{text}") from None
