"""Torch device that a name stands for on this machine."""

import torch


def resolve_device(device):
    """The torch device that a name means on this machine now."""
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
            f"device={device!r} is not on this machine, which has {count} device(s) of that type. "
            "Set device='auto' to take what there is."
        )
    return resolved
