"""Corrupted and forged encoder files: loading raises EncoderFileError and runs no code."""

import io
import json
import os
import random
import subprocess
import sys
import time
import traceback
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import cmim_sklearn
from cmim_sklearn import CMIMEncoder
from cmim_sklearn._utils import archive
from cmim_sklearn._utils.archive import EncoderFileError
from tests.helpers import ENCODERS, forge, small_encoder


def test_files_of_a_later_format_version_raise(saved, tmp_path):
    def later(manifest, arrays):
        manifest["version"] = archive.VERSION + 1
        manifest["versions"]["cmim_sklearn"] = "3.4.5"

    path = forge(saved[1], tmp_path / "forged", later, members=lambda p: [*p, ("o", b"")])
    message = (
        rf"forged cannot be loaded: it has format version {archive.VERSION + 1}, but cmim_sklearn "
        rf"{cmim_sklearn.__version__} reads versions 1 to {archive.VERSION}\. Install the release "
        r"that wrote it \('3\.4\.5'\), or a later one"
    )
    with pytest.raises(EncoderFileError, match=message):
        CMIMEncoder.load(path)


def set_at(manifest, place, value):
    """Set a value in nested dicts and lists; place is like "fitted/_net/history/0"."""
    *way, last = place.split("/")
    for step in way:
        manifest = manifest[int(step) if isinstance(manifest, list) else step]
    manifest[int(last) if isinstance(manifest, list) else last] = value


WEIGHT = "_net.weights.encoder.body.0.0.weight"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("format", "something", "have the format 'cmim_sklearn encoder'; got 'something'"),
        ("version", 0, "format version 0"),
        ("version", 1.0, r"format version 1\.0"),
        ("version", True, "format version True"),
        ("version", "1", "format version '1'"),
        ("class", "os.system", r"holds a os\.system, not a CMIMEncoder"),
        ("class", ["CMIMEncoder"], r"holds a \['CMIMEncoder'\]"),
        ("sha256", {}, r"arrays\.safetensors must have the sha256"),
        ("parameters/__class__", 1, "no parameter '__class__'"),
        ("parameters/unknown", 1, r"no parameter 'unknown' in cmim_sklearn \d"),
        ("parameters/embedding", "x", "'embedding' parameter of CMIMEncoder must be .* Got 'x'"),
        ("parameters/learning_rate_init", -1, "'learning_rate_init' parameter .* Got -1"),
        ("parameters/net_params", "x", "'net_params' parameter .* Got 'x'"),
        ("parameters/net_params", {"x": 1}, "net_params has an unknown parameter 'x'"),
        ("fitted/transform", 1, "'transform' is not the name"),
        ("fitted/__dict__", {}, "'__dict__' is not the name"),
        ("fitted/net_", {}, "'net_' is not the name"),
        ("fitted/alpha", 1, "'alpha' is not the name"),
        ("fitted/n_features_in_", 7, "table of 7 columns"),
        ("fitted/n_features_in_", 10**30, r"table of 1000\d+"),
        ("fitted/_built/hidden_layer_sizes", [10**9], r"takes \d{11,} weights or more, but the"),
        ("fitted/_built/hidden_layer_sizes", [1] * 10**5, r"takes \d{6} weights or more"),
        ("fitted/_built/hidden_layer_sizes", [-6], r"has widths \[19, -6"),
        ("fitted/_built/hidden_layer_sizes", [6.0], r"has widths \[19, 6\.0"),
        ("fitted/_built/hidden_layer_sizes", [True], r"has widths \[19, True"),
        ("fitted/_built/hidden_layer_sizes", [5], r"weight '\S+ is \(\(6,.* and \(\(5,"),
        ("fitted/_built/n_components", 10**9, r"takes \d{10,} weights or more"),
        ("fitted/_built/n_components", 2, r"weight '\S+ is"),
        ("fitted/_built/activation", "os.system", r"KeyError: 'os\.system'"),
        ("fitted/_built/encoder", "os.system", r"KeyError: 'os\.system'"),
        ("fitted/_built/encoder", {"callable": "os.system"}, r"made by a callable, 'os\.system'"),
        ("fitted/_built/posterior", "learned", r"weight '\S+ is"),
        ("fitted/_built/other", 1, r"has the wrong entries, \['activation'"),
        ("fitted/table_/layout/library", "os", "unknown dataframe library 'os'"),
        ("fitted/table_/layout/library", "polars", r"unknown dtype .*'float64'} of polars"),
        ("fitted/table_/layout/dtypes/0/dtype", "V999999999", "unknown dtype .*'V999999999'}"),
        ("fitted/table_/layout/dtypes/0/dtype", "float69", "'float69'} of .* for column 'income'"),
        ("fitted/table_/layout/dtypes/6/categories/0", "Bern", "column 'city' of the saved schema"),
        ("fitted/table_/layout/dtypes/6/categories/0", "Rome", "unknown dtype .* column 'city'"),
        ("fitted/table_/types/0", "category", "column 'income' of the saved schema must have"),
        ("fitted/table_/layout/names/0", ["a"], r"names must be .*; got \['a'\]"),
        ("fitted/table_/blocks/0/kind", "os", "KeyError: 'os'"),
        ("fitted/table_/blocks/0/positions", [0, 1, 1], "does not describe a table"),
        ("fitted/table_/blocks/0/fitted/evil", 1, "TypeError: .*evil"),
        ("fitted/table_/blocks/2/fitted/n_classes", [10**12, 3], "must be 1 to .* 10{12}"),
        ("fitted/table_/types/0", "file", "does not describe a table"),
        ("fitted/table_/blocks/1/fitted/values/0", [], "unpack"),
        ("fitted/table_/blocks/2/fitted/levels/0", [], "n_classes must be 1 to 0 .*got"),
        ("fitted/feature_names_in_/$objects/values/0", "evil", "names_in_ are not the names"),
        ("fitted/_scales/mean", {"$tuple": []}, r"array '_scales\.mean\.0' is not part of"),
        ("fitted/_scales/more", {"$tuple": []}, "features 'more' must have shapes None"),
        ("fitted/_net/history", [1], "history must be a list"),
        ("fitted/note_", {"$import": "os"}, r"unknown tag '\$import'"),
        ("fitted/note_", {"$array": WEIGHT}, "KeyError"),
        ("fitted/note_", {"$float": "1e5"}, "KeyError: '1e5'"),
        ("fitted/note_", {"$tuple": [], "b": 1}, "too many values"),
        ("fitted/note_", {"$objects": {"shape": [10**12], "values": []}}, "cannot reshape"),
        ("fitted/note_", {"$text": {"width": 10**8, "shape": [1], "values": ["a"]}}, "width 10000"),
        ("fitted/note_", {"$text": {"width": 0, "shape": [1], "values": ["a"]}}, "width 0\\."),
        ("fitted/note_", {"$text": {"width": 10**8, "shape": [], "values": ""}}, "list of str"),
        ("fitted/note_", {"$text": {"width": 10**8, "shape": [0], "values": []}}, "width 10000"),
        ("fitted/note_", {"$text": {"width": 10**6, "shape": [9], "values": [["a"] * 9]}}, "str"),
        ("fitted/note_", {"$text": {"width": 10**7, "shape": [1], "values": ["a"]}}, "16777216"),
    ],
)  # fmt: skip
def test_invalid_manifests_raise(saved, tmp_path, place, value, message):
    def edit(manifest, arrays):
        set_at(manifest, place, value)
        return place == "sha256"

    path = forge(saved[1], tmp_path / "forged", edit)
    start = time.monotonic()
    with pytest.raises(EncoderFileError, match=message) as caught:
        CMIMEncoder.load(path)
    assert str(caught.value).startswith(f"{path} cannot be loaded: ")
    assert len(str(caught.value)) < 2000
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    "place",
    [
        "class", "version", "versions/cmim_sklearn", "format", "parameters/unknown",
        "fitted/table_/layout/library", "fitted/table_/layout/names/0",
        "fitted/table_/layout/dtypes/0/dtype", "fitted/table_/blocks/0/kind",
        "fitted/_built/activation", "fitted/_built/encoder", "fitted/n_features_in_",
        "fitted/_built/name/a", "fitted/note_/$array", "fitted/note_/$import",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["x" * 10**6, ["x" * 100] * 10**4, {"x" * 10**6: "y" * 10**6}])
def test_messages_are_short_for_long_values(saved, tmp_path, place, value):
    def edit(manifest, arrays):
        manifest["fitted"]["note_"] = {}
        if place == "fitted/_built/name/a":
            manifest["fitted"]["_built"]["name" * 10**5] = value
        else:
            set_at(manifest, place, value)
        if place == "versions/cmim_sklearn":
            manifest["version"] = archive.VERSION + 1

    with pytest.raises(EncoderFileError) as caught:
        CMIMEncoder.load(forge(saved[1], tmp_path / "forged", edit))
    assert len("".join(traceback.format_exception(caught.value))) < 30_000
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", ENCODERS)
def test_huge_widths_raise_before_memory_is_allocated(name, fitted, tmp_path):
    """Every width in the architecture of every encoder is checked."""
    encoder = fitted(name)
    encoder.save(tmp_path / "model.cmim")
    places = []
    for key, value in encoder._built.items():
        if isinstance(value, list):
            places += [f"fitted/_built/{key}/{i}" for i in range(len(value))]
            places.append(f"fitted/_built/{key}")
        elif isinstance(value, int) and key not in ("n_groups", "max_categories"):
            places.append(f"fitted/_built/{key}")
    for key in encoder.get_params():
        if key.endswith("layer_sizes") and key not in encoder._built:
            places.append(f"parameters/{key}")
    assert len(places) >= 3
    for place in places:
        is_list = place.endswith("layer_sizes")
        value = [1] * 10**5 if is_list and "_built" in place else 10**9

        def edit(manifest, arrays, place=place, value=value):
            set_at(manifest, place, value)

        path = forge(tmp_path / "model.cmim", tmp_path / "forged", edit)
        start = time.monotonic()
        with pytest.raises(EncoderFileError, match=r"weights (or more|than are allowed)"):
            type(encoder).load(path)
        assert time.monotonic() - start < 30


def invalid_arrays():
    def other_shape(manifest, arrays):
        arrays[WEIGHT] = arrays[WEIGHT].T.copy()

    def other_dtype(manifest, arrays):
        arrays[WEIGHT] = arrays[WEIGHT].astype(np.float64)

    def extra(manifest, arrays):
        arrays["evil"] = np.zeros(3)

    def missing(manifest, arrays):
        del arrays[WEIGHT]

    def another_weight(manifest, arrays):
        manifest["fitted"]["_net"]["weights"]["evil"] = {"$array": "evil"}
        arrays["evil"] = np.zeros(3)

    def no_weight(manifest, arrays):
        bias = WEIGHT.removesuffix("weight") + "bias"
        del arrays[bias]
        del manifest["fitted"]["_net"]["weights"][bias.removeprefix("_net.weights.")]

    def latents(manifest, arrays):
        arrays["_latents.basis"] = arrays["_latents.basis"][:2].copy()

    def factors(manifest, arrays):
        arrays["_latents.factors"] = arrays["_latents.factors"][:, :-1].copy()

    def heads(manifest, arrays):
        arrays["_heads"] = arrays["_heads"][:, :-1].copy()

    def wide_heads(manifest, arrays):
        arrays["_heads"] = arrays["_heads"].astype(np.float64)

    def infinite_heads(manifest, arrays):
        arrays["_heads"][0, 1] = -np.inf

    def undefined_missing_cells(manifest, arrays):
        arrays["_missing.weights"][0, -1] = np.nan

    def no_component(manifest, arrays):
        for name, shape in {"weights": (0,), "means": (0, 4000), "factors": (0, 8_002_000)}.items():
            before = arrays[f"_latents.{name}"]
            arrays[f"_latents.{name}"] = np.empty(shape, before.dtype)

    def missing_cells(manifest, arrays):
        arrays["_missing.weights"] = arrays["_missing.weights"][:, :-1].copy()

    def missing_columns(manifest, arrays):
        manifest["fitted"]["_missing"]["columns"][0] = 99

    def scales(manifest, arrays):
        arrays["_scales.mean.1"] = np.ones((10, 10, 3), np.float32)

    def declare(name, **changes):
        def edit(manifest, arrays):
            manifest["arrays"][name].update(changes)
            return True

        return edit

    yield "other_shape", other_shape, rf"weight '{WEIGHT[13:20]}.*\(19, 6\).* and \(\(6, 19\)"
    yield "other_dtype", other_dtype, r"float64\) in the file and .*float32\) in the network"
    yield "extra", extra, "array 'evil' is not part of any value"
    yield "missing", missing, "KeyError"
    yield "another_weight", another_weight, "weight 'evil' is .* and None in the network"
    yield "no_weight", no_weight, "is None in the file"
    yield "missing_cells", missing_cells, r"missing cells are float16 of shape \(\d, 6\), not .*7\)"
    yield "missing_columns", missing_columns, r"its columns with missing cells are \[99, "
    yield "latents", latents, r"basis of its latent prior have shape \(2, \d\), not \(3, \d\)"
    yield "factors", factors, r"factors .* for means of shape \(\d+, \d\).*; got \(\d+, \d\)"
    yield "heads", heads, r"heads have shape \(\d+, 6\) .*; expected .* \(\d+, 7\)"
    yield "wide_heads", wide_heads, r"heads have .* float64; expected .* float16"
    yield "infinite_heads", infinite_heads, "its heads must be finite numbers; got -inf"
    yield "undefined_missing_cells", undefined_missing_cells, "missing cells must .* got nan"
    yield "no_component", no_component, r"factors .* for means of shape .*; got \(0, 8002000\)"
    yield "scales", scales, r"features 'mean' must have shapes .*; got .*\(10, 10, 3\)"
    yield "larger", declare(WEIGHT, shape=[10**9, 10**9]), r"declare \d{19} bytes; the file has \d+"
    yield "negative", declare(WEIGHT, shape=[-6, -19]), "invalid dtype or shape"
    yield "floats", declare(WEIGHT, shape=[6.0, 19.0]), "invalid dtype or shape"
    yield "dtype", declare(WEIGHT, dtype="object"), "invalid dtype or shape"
    yield "smaller", declare(WEIGHT, shape=[6, 18]), r"must be .*18\].*; got \{.*\[6, 19\]"
    yield "as_int", declare(WEIGHT, dtype="int32"), "must be .*'int32'.*; got .*'float32'"


@pytest.mark.parametrize(("name", "edit", "message"), invalid_arrays())
def test_invalid_arrays_raise(saved, tmp_path, name, edit, message):
    with pytest.raises(EncoderFileError, match=message):
        CMIMEncoder.load(forge(saved[1], tmp_path / "forged", edit))


def loads_as(path, expected, table):
    """Return whether a file loads. If it does, its features must be the expected ones."""
    try:
        encoder = CMIMEncoder.load(path)
    except EncoderFileError:
        return False
    assert_array_equal(encoder.transform(table), expected)
    return True


@pytest.mark.parametrize("n_places", [100, pytest.param(None, marks=pytest.mark.slow)])
def test_flipped_bytes_raise_or_change_nothing(saved, tmp_path, n_places):
    encoder, path, table = saved
    data, expected = path.read_bytes(), encoder.transform(table)
    rng = random.Random(0)
    # All bytes of the zip's own records, and a sample of the content.
    places = {*range(60), *range(len(data) - 200, len(data)), *rng.sample(range(len(data)), 300)}
    places = sorted(places) if n_places is None else rng.sample(sorted(places), n_places)
    loaded = 0
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        (tmp_path / "corrupted").write_bytes(flipped)
        loaded += loads_as(tmp_path / "corrupted", expected, table)
    assert loaded < 0.2 * len(places)  # dates, permissions and versions in the zip's records


def test_truncated_files_raise(saved, tmp_path):
    _, path, table = saved
    data = path.read_bytes()
    for n in {*range(0, len(data), 97), *range(len(data) - 150, len(data))}:
        (tmp_path / "corrupted").write_bytes(data[:n])
        assert not loads_as(tmp_path / "corrupted", None, table)
    (tmp_path / "corrupted").write_bytes(data + b"\0")
    assert not loads_as(tmp_path / "corrupted", None, table)


def test_members_of_two_files_cannot_be_mixed(saved, mixed, tmp_path):
    small_encoder(random_state=1).fit(mixed).save(tmp_path / "other")
    with zipfile.ZipFile(tmp_path / "other") as file:
        arrays = file.read(archive.ARRAYS)
    path = forge(saved[1], tmp_path / "f", members=lambda p: [p[0], (p[1][0], arrays)])
    with pytest.raises(EncoderFileError, match=r"arrays\.safetensors must have the sha256"):
        CMIMEncoder.load(path)

    def exchanged(pairs):
        return [(pairs[0][0], pairs[1][1]), (pairs[1][0], pairs[0][1])]

    with pytest.raises(EncoderFileError):
        CMIMEncoder.load(forge(saved[1], tmp_path / "f", members=exchanged))


def places_in(value, place=()):
    """Places of all values in nested dicts and lists."""
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from places_in(inner, (*place, key))
    yield place


STRANGE = [None, True, -1, 0, 2**63, 10**400, 0.5, "", "os.system", [], [[]], {}, {"$array": "x"}]


def test_a_strange_value_anywhere_in_a_manifest_raises_or_loads(saved, tmp_path):
    with zipfile.ZipFile(saved[1]) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    places = sorted(places_in(json.loads(parts[archive.MANIFEST])), key=str)
    rng = random.Random(0)
    path, loaded = tmp_path / "forged", 0
    for place in rng.sample([p for p in places if p], 250):
        manifest = json.loads(parts[archive.MANIFEST])
        inner = manifest
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = rng.choice(STRANGE)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            file.writestr(archive.MANIFEST, json.dumps(manifest))
            file.writestr(archive.ARRAYS, parts[archive.ARRAYS])
        path.write_bytes(out.getvalue())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                CMIMEncoder.load(path)
            loaded += 1
        except EncoderFileError:
            pass
    assert loaded < 150


WATCHED = """
import json, os, sys, zipfile
sys.path.insert(0, sys.argv[1])
import numpy, sklearn, torch, skorch, safetensors.numpy
from cmim_sklearn import CMIMEncoder
good, hostile = sys.argv[2:4]
before = set(sys.modules)
CMIMEncoder.load(good)
new = {name.split(".")[0] for name in set(sys.modules) - before}
assert new <= set(sys.stdlib_module_names) | {"torch", "sympy", "mpmath"}, new
seen = []
FORBIDDEN = ("import", "exec", "compile", "pickle.", "marshal.", "os.", "subprocess.", "socket.",
             "ctypes.", "shutil.", "code.")
def hook(event, arguments):
    if event.startswith(FORBIDDEN):
        seen.append((event, repr(arguments)[:200]))
sys.addaudithook(hook)
CMIMEncoder.load(good)
for name in os.environ["HOSTILE"].split():
    try:
        CMIMEncoder.load(name)
    except ValueError as error:
        assert "cannot be loaded" in str(error)
assert not seen, seen
assert "evil_module" not in sys.modules
print("watched")
"""


def test_loading_imports_and_runs_nothing(saved, tmp_path):
    evil = tmp_path / "evil_module.py"
    evil.write_text("open(__file__ + '.ran', 'w')\nclass CMIMEncoder: pass\nrun = CMIMEncoder\n")
    hostile = []
    for i, place in enumerate(
        [
            "class",
            "parameters/encoder",
            "parameters/view",
            "parameters/net_params",
            "fitted/_built/encoder",
            "fitted/_built/activation",
            "fitted/table_/layout/library",
            "fitted/table_/layout/dtypes/0/dtype",
            "fitted/table_/blocks/0/kind",
            "fitted/_sklearn_version",
        ]
    ):
        for j, value in enumerate(
            ["evil_module.run", {"callable": "evil_module.run"}, {"Corruption": ["evil_module"]}]
        ):

            def edit(manifest, arrays, place=place, value=value):
                set_at(manifest, place, value)

            hostile.append(str(forge(saved[1], tmp_path / f"hostile_{i}_{j}", edit)))
    hostile.append(str(tmp_path / "pickle"))
    Path(hostile[-1]).write_bytes(b"cevil_module\nrun\n(tR.")
    result = subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path), str(saved[1]), ""],
        env={**os.environ, "HOSTILE": " ".join(hostile)},
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip().endswith("watched"), result.stderr
    assert not evil.with_name("evil_module.py.ran").exists()
