"""File format for JSON values and numpy arrays, safe to read from untrusted sources.

A file is a zip with two uncompressed members, ``manifest.json`` and ``arrays.safetensors``; the
manifest describes the arrays. It contains no code. Reading checks declared sizes against the bytes
of the file before anything is allocated. Files are written completely or not at all.
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

import numpy as np

from cmim_sklearn._utils.messages import listed, shown
from cmim_sklearn._version import __version__

FORMAT, VERSION = "cmim_sklearn encoder", 3
OLDEST_VERSION = 1
"""Oldest format version that can be read.

Version 2 halved the factors of the latent prior. Version 3 lists the parameters of the schema one
by one in the architecture.
"""
MANIFEST, ARRAYS = "manifest.json", "arrays.safetensors"

MAX_FILE_BYTES = 2**31 - 1
"""Largest size of a file, and thus of its members, which are not compressed."""
MAX_MANIFEST_BYTES = 2**26
MAX_DIRECTORY_BYTES = 2**12
"""Largest size of the zip's table of contents; two members need far less."""
MAX_TEXT_BYTES = 2**24
"""Largest size of an array of fixed-width strings, which can far exceed its values in the file."""

PART_SECONDS = 600
"""Age in seconds after which a temporary file is taken as left by a killed process."""
MAX_MESSAGE = 1000
"""Largest number of characters of an error message, which may quote the file."""

DTYPES = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
}  # fmt: skip


class EncoderFileError(ValueError):
    """Error for a file that cannot be loaded, with its path and the reason.

    The file is not an encoder file, holds another class, is truncated or corrupted, declares sizes
    that do not match its content, or has a format version that this release does not read.
    """


@contextmanager
def reading(path):
    """Convert errors in the content of a file to `EncoderFileError`."""
    # Parsers raise many types of errors for corrupted input; callers see only one.
    try:
        with np.errstate(all="ignore"):  # a file may contain any number
            yield
    except MemoryError:
        raise
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        cause = error
        if len(text) > MAX_MESSAGE:
            # Without a cause: a traceback would print its long message, too.
            text, cause = f"{text[:MAX_MESSAGE]}... ({len(text)} characters)", None
        raise EncoderFileError(f"{path} cannot be loaded: {text}") from cause


# -- files -----------------------------------------------------------------------------------------


def read_bytes(path):
    """Read the bytes of a file, up to one more than `unpack` accepts."""
    with open(path, "rb") as file:
        return file.read(min(os.fstat(file.fileno()).st_size, MAX_FILE_BYTES + 1))


def write_bytes(path, content):
    """Write a file completely; after a failure an existing file is unchanged."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path):
    """Open a temporary file that replaces the one at a path once it is completely written."""
    path = Path(os.path.realpath(path))
    part = path.with_name(_part_name(path, secrets.token_hex(4)))
    try:
        with open(part, "xb") as file:
            with suppress(FileNotFoundError):
                shutil.copymode(path, part)  # keep the permissions
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(part):
            error.filename = str(path)  # the path that the caller passed
        raise


def clear_parts(path):
    """Remove old temporary files of interrupted writes of a file."""
    path = Path(os.path.realpath(path))
    _remove_old(path.parent.glob(_part_name(path, "*")))


def clear_parts_in(folder):
    """Remove old temporary files of interrupted writes of any file in a folder."""
    _remove_old(parts_in(folder))


def parts_in(folder):
    """Temporary files of writes in a folder; the pattern matches no other program's files."""
    digit = "[0-9a-f]"
    return Path(folder).glob(f".{digit * 16}.{digit * 8}.part")


def _remove_old(parts):
    for part in parts:
        with suppress(OSError):  # another process may remove them, too
            if time.time() - part.stat().st_mtime > PART_SECONDS:
                part.unlink()


def _part_name(path, token):
    """Name of the temporary file for a path; short even if the name of the path is long."""
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{token}.part"


# -- the zip ---------------------------------------------------------------------------------------


def pack(content, arrays, kind=FORMAT):
    """Return the bytes of a file with a manifest and arrays.

    Parameters
    ----------
    content : dict
        JSON values for the manifest, by name.
    arrays : dict of str to array
        Arrays with dtypes in `DTYPES`, by name.
    kind : str
        Kind of the file, its ``format`` in the manifest.

    Raises
    ------
    EncoderFileError
        If the file would be larger than `unpack` accepts.
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
            info = zipfile.ZipInfo(name)  # dated 1980, so that equal encoders give equal files
            info.external_attr = 0o644 << 16
            archive.writestr(info, member)
    data = out.getvalue()
    for name, size, limit, advice in (
        ("manifest", len(members[MANIFEST]), MAX_MANIFEST_BYTES, "Store long lists as arrays"),
        ("file", len(data), MAX_FILE_BYTES, "Use a smaller network"),
    ):
        if size > limit:
            raise EncoderFileError(
                f"The {name} must have at most {limit} bytes; got {size}. {advice}."
            )
    return data


def unpack(data, kind=FORMAT):
    """Return the manifest and arrays of the bytes of a file, checked against each other.

    Raises
    ------
    Exception
        Any type of error, if the content is invalid; see `reading`.
    """
    from safetensors.numpy import load

    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it must have at most {MAX_FILE_BYTES} bytes.")
    _check_directory(data, kind)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = _members(archive, len(data))
        if MANIFEST not in members:
            raise ValueError(f"it has no {MANIFEST}, so it is not a {kind} file.")
        if members[MANIFEST].file_size > MAX_MANIFEST_BYTES:
            raise ValueError(
                f"its manifest must have at most {MAX_MANIFEST_BYTES} bytes; got "
                f"{members[MANIFEST].file_size}."
            )
        manifest = _parsed(_content(archive, members[MANIFEST]), kind)
        _check_version(manifest)
        if set(members) != {MANIFEST, ARRAYS}:
            raise ValueError(
                f"its members must be {MANIFEST} and {ARRAYS}; got {listed(sorted(members))}."
            )
        packed = _content(archive, members[ARRAYS])
    if manifest["sha256"] != {ARRAYS: hashlib.sha256(packed).hexdigest()}:
        raise ValueError(
            f"{ARRAYS} must have the sha256 in the manifest; got another one. It is corrupted."
        )
    declared = manifest["arrays"]
    _check_declared(declared, len(packed))
    arrays = load(packed)
    found = {name: _described(array) for name, array in arrays.items()}
    for name in sorted(declared.keys() | found.keys()):
        if declared.get(name) != found.get(name):
            raise ValueError(
                f"array {shown(name)} must be {shown(declared.get(name))}, as in the manifest; got "
                f"{shown(found.get(name))}."
            )
    return manifest, arrays


def _described(array):
    return {"dtype": array.dtype.name, "shape": list(array.shape)}


def _check_directory(data, kind):
    """Check the end of the zip, which holds the size of the table that zipfile reads first."""
    end, before = data[-22:], data[-42:-38]
    if len(end) < 22 or end[:4] != b"PK\5\6" or before == b"PK\6\7":
        raise ValueError(f"it is truncated, or is not a {kind} file.")
    n_bytes = struct.unpack("<L", end[12:16])[0]
    if n_bytes > MAX_DIRECTORY_BYTES:
        raise ValueError(
            f"its table of contents must have at most {MAX_DIRECTORY_BYTES} bytes; got {n_bytes}."
        )


def _members(archive, n_bytes):
    """Check the members of the zip without reading them; return them by name."""
    members = {}
    for info in archive.infolist():
        name = info.filename
        if name in members:
            raise ValueError(f"its member {shown(name)} occurs more than once.")
        if name.startswith(("/", "\\")) or ":" in name or ".." in re.split(r"[/\\]", name):
            raise ValueError(f"its member {shown(name)} has a path that leads outside the file.")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"its member {shown(name)} must not be compressed.")
        members[name] = info
    total = sum(info.file_size for info in members.values())
    if total > n_bytes:
        raise ValueError(f"its members declare {total} bytes; the file has {n_bytes}.")
    return members


def _content(archive, info):
    content = archive.read(info)
    if len(content) != info.file_size:
        raise ValueError(f"{info.filename} must have {info.file_size} bytes; got {len(content)}.")
    return content


def _parsed(content, kind):
    def without_duplicates(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("its manifest has a name more than once.")
        return found

    def reject(constant):
        raise ValueError(f"its manifest has {constant}, which is not JSON.")

    parsed = json.loads(
        content.decode(), object_pairs_hook=without_duplicates, parse_constant=reject
    )
    found = parsed.get("format") if isinstance(parsed, dict) else parsed
    if found != kind:
        raise ValueError(f"its manifest must have the format {kind!r}; got {shown(found)}.")
    return parsed


def _check_version(manifest):
    version = manifest.get("version")
    if type(version) is not int or not OLDEST_VERSION <= version <= VERSION:
        versions = manifest.get("versions")
        writer = versions.get("cmim_sklearn") if isinstance(versions, dict) else None
        raise ValueError(
            f"it has format version {shown(version)}, but cmim_sklearn {__version__} reads "
            f"versions {OLDEST_VERSION} to {VERSION}. Install the release that wrote it "
            f"({shown(writer)}), or a later one."
        )


def _check_declared(declared, n_bytes):
    """Check the declared arrays before any is allocated."""
    total = 0
    for name, array in declared.items():
        shape = array["shape"]
        if array["dtype"] not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"array {shown(name)} has an invalid dtype or shape: {shown(array)}.")
        total += np.dtype(array["dtype"]).itemsize * math.prod(shape)
    if total > n_bytes:
        raise ValueError(f"its arrays declare {total} bytes; the file has {n_bytes}.")


# -- values ----------------------------------------------------------------------------------------


def to_json(value, place, arrays):
    """Convert a value to JSON; types that JSON lacks become a dict with one ``$`` name.

    Parameters
    ----------
    value : object
        None, bool, int, float, str, list, tuple, dict, numpy array or scalar, or nested ones.
    place : str
        Name of the value, in messages and for its arrays.
    arrays : dict of str to array
        Arrays of the value are added here.

    Raises
    ------
    TypeError
        If the value contains another type.
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
        f"{place} must be None, a boolean, number, string, list, tuple, dict or numpy array to be "
        f"saved; got {shown(value)}, of type {type(value).__name__}. Convert or delete it, or "
        "pickle the encoder."
    )


def _array_to_json(array, place, arrays):
    if array.dtype == object or array.dtype.kind == "U":
        shape, values = list(array.shape), array.ravel().tolist()
        if array.dtype.kind == "U":
            if array.nbytes > MAX_TEXT_BYTES:
                raise TypeError(
                    f"{place} must have at most {MAX_TEXT_BYTES} bytes, as an array of fixed-width "
                    f"strings; got {array.nbytes}. Convert it with .astype(object)."
                )
            width = array.itemsize // np.dtype("U1").itemsize
            return {"$text": {"width": width, "shape": shape, "values": values}}
        values = [to_json(v, f"{place}.{i}", arrays) for i, v in enumerate(values)]
        return {"$objects": {"shape": shape, "values": values}}
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"{place} must be an array of strings, objects or {', '.join(sorted(DTYPES))} to be "
            f"saved; got {array.dtype}. Convert it with .astype()."
        )
    name = place if place not in arrays else f"{place} ({len(arrays)})"
    arrays[name] = np.array(array, array.dtype.newbyteorder("="), order="C")
    return {"$array": name}


def from_json(value, arrays):
    """Invert `to_json`; arrays are removed from `arrays`, each once."""
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
            raise ValueError(f"expected a list of strings; got {shown(values)}.")
        # Checked before numpy allocates the declared width for every string.
        if width < bool(values) or 4 * width * max(1, len(values)) > MAX_TEXT_BYTES:
            raise ValueError(
                "an array of strings must have a positive width and at most "
                f"{MAX_TEXT_BYTES} bytes; got {len(values)} strings of width {shown(width)}."
            )
        return np.array(values, f"U{width:d}").reshape(content["shape"])
    raise ValueError(f"its manifest has the unknown tag {shown(tag)}.")
