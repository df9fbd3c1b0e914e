"""Nets that can be trained together: obstacles, structure, and the number that fits into memory."""

from numbers import Real

import torch
from torch.nn import Linear

from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._training.batches import EncodedTable
from cmim_sklearn._training.callbacks import PLAIN_CALLBACKS, OneCycle
from cmim_sklearn._training.labels import StopLabels
from cmim_sklearn._training.net import LatentNet
from cmim_sklearn.networks import MLP

CPU_MEMORY, GPU_SHARE = 2**31, 0.5
"""Memory that members may take together: 2 GiB on a CPU, on a GPU a share of what is free."""


def obstacle(net: LatentNet, data):
    """Reason why a net is not trained together with others, in words; None if it can be."""
    model, optimizer = net.module_, net.optimizer_
    if type(model) is not LatentModel or not net.criterion_.takes_rows:
        return "its loss has no batched form"
    if model.symmetric:
        return "symmetric=True generates rows in each step"
    if type(model.encoder) is not MLP or type(model.decoder) is not MLP:
        return "it has a custom network"
    if not isinstance(data, EncodedTable):
        return "its rows are read from files"
    if net.autocast or net.compile:
        return "net_params has autocast or compile"
    if type(optimizer) is not torch.optim.AdamW or not _has_defaults(optimizer):
        return "net_params changes the optimizer"
    kinds = [type(callback) for _, callback in net.callbacks_]
    if not set(kinds) <= {*PLAIN_CALLBACKS, StopLabels} or kinds.count(OneCycle) != 1:
        return "net_params changes the callbacks"
    return None


def _has_defaults(optimizer):
    """Whether an AdamW has one group of parameters, and sets no option but rates and kernels."""
    expected = torch.optim.AdamW([torch.zeros(1)]).defaults
    free = {"lr", "weight_decay", "fused", "foreach", "capturable"}
    (group, *others) = optimizer.param_groups
    return not others and all(group[k] == v for k, v in expected.items() if k not in free)


def structure(net: LatentNet):
    """Hashable value that is equal for nets that can be trained together."""
    model = net.module_
    return (
        net.criterion_.objective,
        tuple((n, None if isinstance(v, Real) else v) for n, v in net.criterion_.options.items()),
        model.likelihood.structure(),
        type(model.posterior),
        model.posterior.n_components,
        repr(model.encoder),
        repr(model.decoder),
        repr(model.labels),
        None if model.labels is None else model.labels.n_classes,
        net.batch_size,
        str(net.device),
    )


def n_at_once(net: LatentNet, data: EncodedTable):
    """Number of nets like this one, each with separate data, that fit into memory; at least 1.

    A net takes ten copies of its weights, its rows twice, and for a batch 24 numbers for each row
    and unit of a layer, and 8 for each pair of rows. All nets may take `CPU_MEMORY`, or `GPU_SHARE`
    of the free memory of a GPU.

    Heads are trained later, see `train_at_once`, and are not counted.
    """
    n_weights = sum(weight.numel() for weight in net.module_.parameters())
    layers = [layer for layer in net.module_.modules() if isinstance(layer, Linear)]
    width = sum(layer.in_features + layer.out_features for layer in layers)
    n_rows = net.batch_size
    n_batch = 24 * n_rows * width + 8 * n_rows**2
    n_bytes = 4 * (10 * n_weights + 2 * data.x.numel() + n_batch)
    return max(1, int(memory_for(net.device, CPU_MEMORY) // n_bytes))


def memory_for(device, on_cpu):
    """Bytes that members may take together: `GPU_SHARE` of what is free on a GPU, else `on_cpu`."""
    if torch.device(device).type == "cuda":
        return GPU_SHARE * torch.cuda.mem_get_info(device)[0]
    return on_cpu
