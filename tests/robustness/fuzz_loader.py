"""Coverage-guided fuzzing of `load`: every file loads or raises EncoderFileError.

    python -m tests.robustness.fuzz_loader --out DIR --seconds 3600

Needs atheris (``pip install atheris``; Linux). DIR keeps the files that reached new code, from
which the next call continues, and one file for each failure. A failure is an undocumented
exception; code that runs (an audit hook sees imports, exec, compile, processes, sockets and other
files); more than ``SECONDS`` for one file; or ``MEMORY_BYTES`` of additional memory.
"""

import argparse
import copy
import hashlib
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import atheris
import numpy as np
import safetensors.numpy
import sklearn  # noqa: F401
import skorch  # noqa: F401
import torch

with atheris.instrument_imports(include=["cmim_sklearn"]):
    import cmim_sklearn
    from cmim_sklearn._utils import archive

from tests.helpers import make_mixed

SECONDS, MEMORY_BYTES, MAX_BYTES = 30, 2**30, 2**16
WATCHED = (
    "import", "exec", "compile", "open", "pickle.", "marshal.", "os.", "subprocess.", "socket.",
    "ctypes.", "shutil.", "code.",
)  # fmt: skip
VALID, VALID_SHARE = [], 0.4
"""Files that `save` wrote, and the probability that the next file is a mutation of one of them."""
SEEDS = {
    "CMIMEncoder": {"likelihoods": {"visits": "poisson"}},
    "VAEEncoder": {"numeric_scaling": "standard", "hidden_layer_sizes": ()},
    "InfoNCEEncoder": {"projector_layer_sizes": (3, 2), "numeric_scaling": None},
    "AMDIMEncoder": {"projector_layer_sizes": (3, 2)},
}
STRANGE = [
    None, True, -1, 0, 1, 2**31 - 1, 2**63, 10**400, 0.5, 1e308, "", "os.system", "9" * 1000, [],
    [[]], {}, [1] * 1000, [10**9], {"$array": "x"}, {"$tuple": []}, {"$float": "inf"},
    {"$dict": [[1, 2]]}, {"$scalar": 1}, {"$objects": {"shape": [10**12], "values": []}},
    {"$text": {"width": 10**8, "shape": [1], "values": ["a"]}}, {"callable": "os.system"},
]  # fmt: skip


# -- loading ---------------------------------------------------------------------------------------


def write_seeds(folder):
    """Write a small file for each kind of encoder, fitted to tables of several libraries."""
    import polars as pl
    import pyarrow as pa

    table = make_mixed(40)
    kinds = [lambda t: t, pl.from_pandas, pa.Table.from_pandas, lambda t: t.to_numpy(object)]
    for (name, own), as_kind in zip(SEEDS.items(), kinds, strict=True):
        parameters = {"max_iter": 1, "hidden_layer_sizes": (2,), "n_components": 2, **own}
        encoder = getattr(cmim_sklearn, name)(random_state=0, **parameters)
        encoder.fit(as_kind(table)).save(folder / name)


class Loader:
    """Load bytes from a file and count the results."""

    def __init__(self, folder, end):
        self.path, self.end, self.counts = str(folder / "file"), end, Counter()

    def watch(self):
        """Record events that would run code. Late imports must have happened before."""
        self.seen, self.is_loading = [], False

        def hook(event, arguments):
            is_own = event == "open" and arguments[0] == self.path
            if event.startswith(WATCHED) and not is_own and self.is_loading:
                self.seen.append(f"{event} {arguments!r}"[:200])

        sys.addaudithook(hook)

    def __call__(self, data):
        """Load one file; raise if it fails in an undocumented way or runs code."""
        with open(self.path, "wb") as file:
            file.write(data)
        named = [name for name in SEEDS if name.encode() in data]
        self.is_loading = True
        try:
            self.load((named or ["CMIMEncoder"])[0])
            self.counts["loaded"] += 1
        except archive.EncoderFileError as error:
            self.counts["raised"] += 1
            if len(str(error)) > 2000:
                raise AssertionError(f"a message of {len(str(error))} characters") from error
        finally:
            self.is_loading = False
        if self.seen:
            raise AssertionError(f"loading ran code: {self.seen}")
        if time.monotonic() > self.end:
            print(json.dumps(self.counts), flush=True)
            os._exit(0)

    def load(self, name):
        """Load the file with the class of this name."""
        return getattr(cmim_sklearn, name).load(self.path, device="cpu")


# -- mutations -------------------------------------------------------------------------------------


def mutated(data, max_size, seed):
    """Change bytes anywhere, or write a valid zip with changed content."""
    rng = random.Random(seed)
    if rng.random() < VALID_SHARE:  # mutations of an invalid file fail early
        data = rng.choice(VALID)
    parts = _opened(data) if rng.random() < 0.8 else None
    if parts is None:
        return atheris.Mutate(data, max_size)
    manifest, packed = parts
    change = rng.choice([_change_value, _change_value, _change_text, _change_arrays])
    try:
        changed = _packed(*change(manifest, packed, rng))
    except Exception:  # earlier mutations may have left any structure
        return atheris.Mutate(data, max_size)
    return changed if len(changed) <= max_size else atheris.Mutate(data, max_size)


def _opened(data):
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            return json.loads(file.read(archive.MANIFEST)), file.read(archive.ARRAYS)
    except Exception:  # any error means that it is not a valid file
        return None


def _packed(text, packed):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(archive.MANIFEST, text)
        file.writestr(archive.ARRAYS, packed)
    return out.getvalue()


def _change_value(manifest, packed, rng):
    """Replace values of the manifest by strange ones or by others from the manifest."""
    places = list(_places(manifest))
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        holder, key = rng.choice(places)
        other, at = rng.choice(places)
        # Copies, since a list that contains itself could not be written.
        choices = copy.deepcopy([rng.choice(STRANGE), other[at]])
        if type(holder[key]) in (int, float):
            choices += [holder[key] + rng.choice([-1, 1]), -holder[key], holder[key] * 2]
        kind = rng.random()
        if kind < 0.1 and isinstance(holder, dict):
            holder[rng.choice(["a", "$array", "_net", "view", key + "x"])] = holder.pop(key)
        elif kind < 0.2:
            del holder[key]
        else:
            holder[key] = rng.choice(choices)
        places = list(_places(manifest))
    return json.dumps(manifest), packed


def _change_text(manifest, packed, rng):
    """Change bytes of the manifest."""
    text = json.dumps(manifest).encode()
    return atheris.Mutate(text, len(text) + 64), packed


def _change_arrays(manifest, packed, rng):
    """Change numbers, shapes, dtypes or names of arrays; usually the manifest matches."""
    arrays = safetensors.numpy.load(packed)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    kind = rng.randrange(5)
    if kind == 0 and array.size:
        array.flat[rng.randrange(array.size)] = rng.choice([0, 1, -1, 100])
    elif kind == 1:
        arrays[name] = array.astype(rng.choice(sorted(archive.DTYPES)))
    elif kind == 2:
        arrays[name] = rng.choice([array.T, array[:1], array.ravel(), array[None]]).copy()
    elif kind == 3:
        arrays[name] = np.full(array.shape, rng.choice([np.nan, np.inf, 1e300]))
    else:
        arrays[rng.choice(["x", *arrays])] = arrays.pop(name)
    packed = safetensors.numpy.save(arrays)
    if rng.random() < 0.1:
        packed = atheris.Mutate(packed, len(packed) + 16)
    if rng.random() < 0.9:
        manifest["arrays"] = {
            name: {"dtype": a.dtype.name, "shape": list(a.shape)} for name, a in arrays.items()
        }
        manifest["sha256"] = {archive.ARRAYS: hashlib.sha256(packed).hexdigest()}
    return json.dumps(manifest), packed


def _places(value):
    """Yield every place in nested dicts and lists as a pair (holder, key)."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus = arguments.out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    write_seeds(corpus)
    with tempfile.TemporaryDirectory() as folder:
        loader = Loader(Path(folder), time.monotonic() + arguments.seconds)
        for name in SEEDS:
            VALID.append((corpus / name).read_bytes())
            Path(loader.path).write_bytes(VALID[-1])
            loader.load(name)
        loader.watch()
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES,) * 2)
        atheris.Setup(
            [
                sys.argv[0], str(corpus), f"-artifact_prefix={arguments.out}/",
                f"-timeout={SECONDS}", f"-max_len={MAX_BYTES}", "-rss_limit_mb=0",
                "-len_control=0", "-print_final_stats=1",
            ],
            loader,
            custom_mutator=mutated,
        )  # fmt: skip
        atheris.Fuzz()


if __name__ == "__main__":
    main()
