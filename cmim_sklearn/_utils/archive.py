"""One file of JSON and numpy arrays: written whole or not at all, read without trust in its writer.

It is a zip of two members, stored as they are: ``manifest.json``, and ``arrays.safetensors``, which
the manifest describes. Nothing in it is a program. What a file declares is held against the bytes
that are there before anything is made of it.
"""

import hashlib
import io
import json
import math
import os
import re
import secrets
import shutil
import struct
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from reprlib import Repr

import numpy as np

from cmim_sklearn._version import __version__

FORMAT, VERSION = "cmim_sklearn encoder", 2
OLDEST_VERSION = 1
"""Of files that are read. Version 2 came with the triangles of `LatentPrior`."""
MANIFEST, ARRAYS = "manifest.json", "arrays.safetensors"

MAX_FILE_BYTES = 2**31 - 1
"""The most that a file may have, and so all of its members, none of which is compressed."""
MAX_MANIFEST_BYTES = 2**26
MAX_DIRECTORY_BYTES = 2**12
"""Of the zip's table of contents, which is read whole: far more than two members need."""
MAX_TEXT_BYTES = 2**24
"""Of one array of strings of a fixed width, which can be far larger than what was written."""

PART_SECONDS = 600
"""After which a file that was half written is taken for one whose writer was killed."""
MAX_MESSAGE = 1000
"""Characters of what is told of a file, which may quote it."""

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 100
short = _SHORT.repr
"""A value as messages show it, whatever its size: files of unknown origin decide what it is."""

DTYPES = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
}  # fmt: skip


class EncoderFileError(ValueError):
    """A file that cannot be loaded, or not as what was asked for; it says which, and what is wrong.

    Something that is no file of an encoder, is cut short or damaged, has a format that this release
    does not know, declares what its bytes do not bear out, or holds another class.
    """


@contextmanager
def reading(path):
    """Turn whatever is wrong with the content of a file into `EncoderFileError`."""
    # Parsers of broken input raise all sorts of errors; to the caller they are one.
    try:
        with np.errstate(all="ignore"):  # numbers in a file may be any
            yield
    except MemoryError:
        raise
    except Exception as error:
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        cause = error
        if len(told) > MAX_MESSAGE:
            # A traceback would show the cause, which quotes the file at length.
            told, cause = f"{told[:MAX_MESSAGE]}... ({len(told)} characters)", None
        raise EncoderFileError(f"{path} cannot be loaded: {told}") from cause


# -- files -----------------------------------------------------------------------------------------


def read_bytes(path):
    """The bytes of a file, one beyond what `unpack` takes at most."""
    with open(path, "rb") as file:
        return file.read(min(os.fstat(file.fileno()).st_size, MAX_FILE_BYTES + 1))


def write_bytes(path, content):
    """Write a file as a whole: on failure what was there is there still, and nothing beside it."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path):
    """A file to write, that takes the place of the one at a path once it is written as a whole."""
    path = Path(os.path.realpath(path))
    part = path.with_name(_part_name(path, secrets.token_hex(4)))
    try:
        with open(part, "xb") as file:
            with suppress(FileNotFoundError):
                shutil.copymode(path, part)  # what few may read stays so
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(part):
            error.filename = str(path)  # the name that the caller knows
        raise


def clear_parts(path):
    """Remove what is left of writes of a file that were killed, some time ago; others go on."""
    path = Path(os.path.realpath(path))
    _remove_old(path.parent.glob(_part_name(path, "*")))


def clear_parts_in(folder):
    """Remove what is left of writes of any file of a folder, likewise."""
    _remove_old(parts_in(folder))


def parts_in(folder):
    """What writes of files of a folder are at, or left there; no file of another program."""
    digit = "[0-9a-f]"
    return Path(folder).glob(f".{digit * 16}.{digit * 8}.part")


def _remove_old(parts):
    for part in parts:
        with suppress(OSError):  # of another process that clears as well
            if time.time() - part.stat().st_mtime > PART_SECONDS:
                part.unlink()


def _part_name(path, token):
    """Of a file that is to be put in the place of another, whose name may be as long as it gets."""
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{token}.part"


# -- the zip ---------------------------------------------------------------------------------------


def pack(content, arrays, kind=FORMAT):
    """The bytes of a file.

    Parameters
    ----------
    content : dict
        JSON values under names of its own, for the manifest.
    arrays : dict of str to array
        Of `DTYPES`.
    kind : str
        What the file says that it is.

    Raises
    ------
    EncoderFileError
        If it would be larger than what `unpack` reads.
    """
    from safetensors.numpy import save

    packed = save(arrays)
    manifest = {
        "format": kind,
        "version": VERSION,
        **content,
        "arrays": {name: _described(array) for name, array in arrays.items()},
        "sha256": {ARRAYS: hashlib.sha256(packed).hexdigest()},
    }
    members = {MANIFEST: json.dumps(manifest, allow_nan=False).encode(), ARRAYS: packed}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, member in members.items():
            info = zipfile.ZipInfo(name)  # dated 1980, so that equal encoders make equal files
            info.external_attr = 0o644 << 16
            archive.writestr(info, member)
    data = out.getvalue()
    for what, size, most, advice in (
        ("manifest", len(members[MANIFEST]), MAX_MANIFEST_BYTES, "Keep many values in arrays"),
        ("file", len(data), MAX_FILE_BYTES, "Take a smaller network"),
    ):
        if size > most:
            raise EncoderFileError(
                f"The {what} would have {size} bytes, and {most} are the most that are read. "
                f"{advice}."
            )
    return data


def unpack(data, kind=FORMAT):
    """The manifest and the arrays of a file's bytes of a kind, checked against each other.

    Raises
    ------
    Exception
        Of any kind, where something is wrong with them; see `reading`.
    """
    from safetensors.numpy import load

    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes.")
    _check_directory(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = _members(archive, len(data))
        if MANIFEST not in members:
            raise ValueError(f"it has no {MANIFEST}, and is no file of a {kind}.")
        if members[MANIFEST].file_size > MAX_MANIFEST_BYTES:
            raise ValueError(
                f"its manifest has {members[MANIFEST].file_size} bytes, and {MAX_MANIFEST_BYTES} "
                "are the most that are read."
            )
        manifest = _parsed(_content(archive, members[MANIFEST]), kind)
        _check_version(manifest)
        if set(members) != {MANIFEST, ARRAYS}:
            raise ValueError(f"it must have {MANIFEST} and {ARRAYS}. It has {sorted(members)}.")
        packed = _content(archive, members[ARRAYS])
    if manifest["sha256"] != {ARRAYS: hashlib.sha256(packed).hexdigest()}:
        raise ValueError(f"{ARRAYS} is not what the manifest has the sha256 of.")
    declared = manifest["arrays"]
    _check_declared(declared, len(packed))
    arrays = load(packed)
    found = {name: _described(array) for name, array in arrays.items()}
    for name in sorted(declared.keys() | found.keys()):
        if declared.get(name) != found.get(name):
            raise ValueError(
                f"array {short(name)} is {short(found.get(name))} where the manifest has "
                f"{short(declared.get(name))}."
            )
    return manifest, arrays


def _described(array):
    return {"dtype": array.dtype.name, "shape": list(array.shape)}


def _check_directory(data):
    """Check the end of the zip, which says how long the table is that zipfile reads first."""
    end, before = data[-22:], data[-42:-38]
    if len(end) < 22 or end[:4] != b"PK\5\6" or before == b"PK\6\7":
        raise ValueError("it does not end as such a file does: cut short, or something else.")
    n_bytes = struct.unpack("<L", end[12:16])[0]
    if n_bytes > MAX_DIRECTORY_BYTES:
        raise ValueError(f"its table of contents has {n_bytes} bytes: more than two members need.")


def _members(archive, n_bytes):
    """The zip's members by name; nothing is read yet."""
    members = {}
    for info in archive.infolist():
        name = info.filename
        if name in members:
            raise ValueError(f"it has {short(name)} twice.")
        if name.startswith(("/", "\\")) or ":" in name or ".." in re.split(r"[/\\]", name):
            raise ValueError(f"its member {short(name)} has a path that leads out of the file.")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"its member {short(name)} is compressed; none is in this format.")
        members[name] = info
    total = sum(info.file_size for info in members.values())
    if total > n_bytes:
        raise ValueError(f"its members are said to have {total} bytes; the file has {n_bytes}.")
    return members


def _content(archive, info):
    content = archive.read(info)
    if len(content) != info.file_size:
        raise ValueError(f"{info.filename} has {len(content)} of its {info.file_size} bytes.")
    return content


def _parsed(content, kind):
    def without_duplicates(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("its manifest has a name twice.")
        return found

    def refuse(constant):
        raise ValueError(f"its manifest has {constant}, which JSON has not.")

    parsed = json.loads(
        content.decode(), object_pairs_hook=without_duplicates, parse_constant=refuse
    )
    if not isinstance(parsed, dict) or parsed.get("format") != kind:
        raise ValueError(f"its manifest is not that of a {kind!r}.")
    return parsed


def _check_version(manifest):
    version = manifest.get("version")
    if type(version) is not int or not OLDEST_VERSION <= version <= VERSION:
        versions = manifest.get("versions")
        writer = versions.get("cmim_sklearn") if isinstance(versions, dict) else None
        raise ValueError(
            f"it has format version {short(version)}, and cmim_sklearn {__version__} reads "
            f"versions {OLDEST_VERSION} to {VERSION}. Install the release that wrote it "
            f"({short(writer)}), or a later one."
        )


def _check_declared(declared, n_bytes):
    """Check what arrays are said to be before there are any."""
    total = 0
    for name, of in declared.items():
        shape = of["shape"]
        if of["dtype"] not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"array {short(name)} is said to be {short(of)}: no such array.")
        total += np.dtype(of["dtype"]).itemsize * math.prod(shape)
    if total > n_bytes:
        raise ValueError(f"its arrays are said to have {total} bytes; there are {n_bytes}.")


# -- values ----------------------------------------------------------------------------------------


def to_json(value, place, arrays):
    """A value as JSON; what JSON lacks becomes a dict of one name that begins with ``$``.

    Parameters
    ----------
    value : object
        None, bool, int, float, str, list, tuple, dict, a numpy array or scalar, nested at will.
    place : str
        How to call it, in messages and among the arrays.
    arrays : dict of str to array
        Gets the arrays in it.

    Raises
    ------
    TypeError
        If it holds something else, naming the place.
    """
    if isinstance(value, np.generic):
        return {"$scalar": to_json(np.asarray(value), place, arrays)}
    if isinstance(value, np.ndarray):
        return _array_to_json(value, place, arrays)
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        inner = [to_json(v, f"{place}.{i}", arrays) for i, v in enumerate(value)]
        return inner if isinstance(value, list) else {"$tuple": inner}
    if isinstance(value, dict):
        pairs = [(k, to_json(v, f"{place}.{k}", arrays)) for k, v in value.items()]
        if all(type(k) is str and not k.startswith("$") for k in value):
            return dict(pairs)
        return {"$dict": [[to_json(k, f"{place} (a key)", arrays), v] for k, v in pairs]}
    raise TypeError(
        f"{place} holds a {type(value).__name__}, {short(value)}: the file takes None, booleans, "
        "numbers, strings, lists, tuples, dicts and numpy arrays. Turn it into one of them, or "
        "delete it, or pickle the encoder."
    )


def _array_to_json(array, place, arrays):
    if array.dtype == object or array.dtype.kind == "U":
        shape, values = list(array.shape), array.ravel().tolist()
        if array.dtype.kind == "U":
            if array.nbytes > MAX_TEXT_BYTES:
                raise TypeError(
                    f"{place} is an array of {array.dtype} with {array.nbytes} bytes, and "
                    f"{MAX_TEXT_BYTES} are the most for strings of a fixed width: .astype(object)."
                )
            width = array.itemsize // np.dtype("U1").itemsize
            return {"$text": {"width": width, "shape": shape, "values": values}}
        values = [to_json(v, f"{place}.{i}", arrays) for i, v in enumerate(values)]
        return {"$objects": {"shape": shape, "values": values}}
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"{place} is an array of {array.dtype}; the file takes {', '.join(sorted(DTYPES))}, "
            "strings and objects."
        )
    name = place if place not in arrays else f"{place} ({len(arrays)})"
    arrays[name] = np.array(array, array.dtype.newbyteorder("="), order="C")
    return {"$array": name}


def from_json(value, arrays):
    """The value that `to_json` was given; arrays are taken out of `arrays`, each once."""
    if isinstance(value, list):
        return [from_json(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if not any(name.startswith("$") for name in value):
        return {name: from_json(v, arrays) for name, v in value.items()}
    ((tag, content),) = value.items()
    if tag == "$array":
        return arrays.pop(content)
    if tag == "$scalar":
        return from_json(content, arrays)[()]
    if tag == "$float":
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content]
    if tag == "$tuple":
        return tuple(from_json(v, arrays) for v in content)
    if tag == "$dict":
        return {from_json(k, arrays): from_json(v, arrays) for k, v in content}
    if tag == "$objects":
        values = np.empty(len(content["values"]), dtype=object)
        values[:] = [from_json(v, arrays) for v in content["values"]]
        return values.reshape(content["shape"])
    if tag == "$text":
        values, width = content["values"], content["width"]
        if not isinstance(values, list) or not all(type(value) is str for value in values):
            raise ValueError(f"{short(values)} are no strings.")
        # Before there is an array: numpy makes one as wide as it is told, if only of one string.
        if width < bool(values) or 4 * width * max(1, len(values)) > MAX_TEXT_BYTES:
            raise ValueError(
                f"{len(values)} strings of width {short(width)} are none, or more than "
                f"{MAX_TEXT_BYTES} bytes."
            )
        return np.array(values, f"U{width:d}").reshape(content["shape"])
    raise ValueError(f"its manifest has {short(tag)}, which this format has not.")
