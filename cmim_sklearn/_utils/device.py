"""Torch device for a name such as "auto" or "cuda:1"."""

import torch


def best_device():
    """Return the device that "auto" names: CUDA if available, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def exact_device(device):
    """Return a torch device for float64: the given one, or the CPU if it has none, as "mps"."""
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return torch.device("cpu")
    return device


def resolve_device(device):
    """Return the torch device for a name; ``"auto"`` is `best_device`."""
    if device == "auto":
        return best_device()
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


def cumulative_sum(values, dim):
    """Cumulative sum of floats, which on a GPU is not deterministic in torch."""
    if torch.are_deterministic_algorithms_enabled():
        return values.cpu().cumsum(dim).to(values.device)
    return values.cumsum(dim)
