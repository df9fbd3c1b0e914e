"""Stand-in for a GPU: a torch device in the memory of the CPU, which finds code that assumes a CPU.

``pytest --device standin`` runs the tests with ``device="auto"`` resolved to it. Like CUDA, it
raises for ``tensor.numpy()``, and for tensors or generators of different devices in one operation.
``--device standin-float32`` has no float64 either, like Apple's mps. Needs a C++ compiler and
ninja; the first run compiles for a minute.
"""

import os
import types
from pathlib import Path

import torch
from torch.utils import cpp_extension

from cmim_sklearn._utils import device


def install(name):
    """Register the device with torch, and let ``device="auto"`` resolve to it."""
    if name == "standin-float32":
        os.environ["CMIM_STANDIN_FLOAT32"] = "1"
    cpp_extension.load(
        "cmim_standin",
        [str(Path(__file__).with_name("device.cpp"))],
        extra_cflags=["-O0"],
        is_python_module=False,
    )
    torch.utils.rename_privateuse1_backend("standin")
    module = types.ModuleType("torch.standin")
    module.is_available = module.is_initialized = lambda: True
    module.device_count, module.current_device = lambda: 1, lambda: 0
    module._is_in_bad_fork, module.manual_seed_all = lambda: False, lambda seed: None
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    torch._register_device_module("standin", module)
    torch.utils.generate_methods_for_privateuse1_backend()
    device.best_device = lambda: torch.device("standin", 0)
