"""Torch device for a name such as "auto" or "cuda:1"."""

import torch


def resolve_device(device):
    """Return the torch device for a name.

    ``"auto"``: CUDA if available, otherwise the CPU.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda", "mps"):
        raise ValueError(
            "The 'device' parameter must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'. Got "
            f"{device!r} instead."
        )
    count = {
        "cpu": lambda: 1,
        "cuda": torch.cuda.device_count,
        "mps": lambda: int(torch.backends.mps.is_available()),
    }[resolved.type]()
    if (resolved.index or 0) >= count:
        raise ValueError(
            f"device={device!r} does not exist on this machine, which has {count} device(s) of "
            f"type {resolved.type!r}. Set device='auto' to use an available device."
        )
    return resolved
