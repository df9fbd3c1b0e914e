"""Archive: JSON values and arrays in one zip file, written atomically and read with checks."""

import os
import pickle
import stat
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._utils import archive
from cmim_sklearn._utils.archive import EncoderFileError, from_json, to_json
from tests.helpers import assert_same, forge


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 10**30, 1.5, -0.0, 1e-320, float("nan"), float("inf"),
        float("-inf"), "", "é\ud800", "$array", [], (), {}, [1, (2, [3.0, (None,)])],
        {"a": {"b": (1,)}}, {1: "int", "1": "str", 1.5: None, False: 0, None: 1}, {"$tuple": [1]},
        {("a", 1): "b"}, np.float64(0.1), np.float64("nan"), np.float16(0.1), np.int8(-3),
        np.uint64(2**64 - 1), np.bool_(True), np.str_("abc"), np.zeros((0, 3), np.float32),
        np.array(3, np.int16), np.array([True, False]), np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(["a", "bcd"]),
        np.array([["", "x"]]), np.array(["a", 1, 1.5, True, None, np.nan, (1,)], dtype=object),
        np.empty((2, 0), dtype=object), [np.array([0.1]), {"x": np.array([0.2])}],
    ],
    ids=repr,
)  # fmt: skip
def test_values_keep_their_types(value):
    arrays = {}
    content = {"it": to_json(value, "it", arrays)}
    manifest, arrays = archive.unpack(archive.pack(content, arrays))
    assert_same(from_json(manifest["it"], arrays), value)
    assert arrays == {}


def test_arrays_at_places_with_equal_names_do_not_collide():
    value, arrays = {"a.b": np.array([1]), "a": {"b": np.array([2])}}, {}
    written = to_json(value, "x", arrays)
    assert len(arrays) == 2
    assert_same(from_json(written, arrays), value)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_keeps_the_old_file(saved, tmp_path, monkeypatch, step):
    path = tmp_path / "model.cmim"
    path.write_bytes(b"before")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        saved[0].save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.cmim"]
    assert path.read_bytes() == b"before"


def test_an_interrupted_save_leaves_no_file(saved, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        saved[0].save(tmp_path / "model.cmim")
    assert list(tmp_path.iterdir()) == []


def test_file_names_may_have_the_maximum_length(saved, tmp_path):
    path = tmp_path / ("n" * 255)
    saved[0].save(path)
    assert CMIMEncoder.load(path).n_iter_ == 2


def test_a_later_save_removes_temporary_files_of_a_killed_one(saved, tmp_path, monkeypatch):
    path, left = tmp_path / "model.cmim", []
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda part, path: left.append(Path(part).read_bytes()))
        saved[0].save(path)
        (part,) = tmp_path.iterdir()
    other = tmp_path / archive._part_name(tmp_path / "other", "0123abcd")
    other.write_bytes(b"of another file")
    os.utime(other, (0, 0))
    saved[0].save(path)
    assert part.exists()  # another process may still be writing it
    os.utime(part, (0, 0))
    saved[0].save(path)
    assert set(tmp_path.iterdir()) == {path, other}
    assert left == [path.read_bytes()]


def test_paths_that_cannot_be_written_raise(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.model\.cmim'$"):
        saved[0].save(tmp_path / "nowhere" / "model.cmim")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        saved[0].save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_read_only_folder_raises(saved, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            saved[0].save(tmp_path / "model.cmim")
    finally:
        tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="about POSIX files")
def test_permissions_and_links_are_kept(saved, tmp_path):
    link, path = tmp_path / "link", tmp_path / "model.cmim"
    path.write_bytes(b"")
    usual = stat.S_IMODE(path.stat().st_mode)
    link.symlink_to(path)
    saved[0].save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == usual
    path.chmod(0o600)
    saved[0].save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert CMIMEncoder.load(path).n_iter_ == 2


def test_other_files_raise(saved, tmp_path):
    with pytest.raises(FileNotFoundError):
        CMIMEncoder.load(tmp_path / "nothing")
    for content in (b"", b"PK", pickle.dumps({}), b"\0" * 100):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(EncoderFileError, match=r"other cannot be loaded: it is truncated, or"):
            CMIMEncoder.load(tmp_path / "other")
    with zipfile.ZipFile(tmp_path / "zip", "w") as file:
        file.writestr("model.json", "{}")
    with pytest.raises(EncoderFileError, match=r"zip cannot be loaded: it has no manifest\.json"):
        CMIMEncoder.load(tmp_path / "zip")


def invalid_members():
    def add(name):
        return lambda pairs: [*pairs, (name, b"x")]

    def rest(pairs):
        return pairs[:1]

    yield "twice", add(archive.MANIFEST), r"'manifest\.json' occurs more than once"
    yield "extra", add("notes.txt"), r"; got 'arrays\.safetensors', 'manifest\.json', 'notes"
    yield "absolute", add("/etc/passwd"), r"member '/etc/passwd' has a path that leads outside"
    yield "parent", add("../../evil"), r"member '\.\./\.\./evil' has a path that leads outside"
    yield "inner", add("a/../../evil"), r"member 'a/\.\./\.\./evil' has a path"
    yield "drive", add("C:evil"), r"member 'C:evil' has a path"
    yield "missing", rest, r"must be manifest\.json and arrays\.safetensors; got 'mani"
    yield "many", lambda pairs: [*pairs, *((f"m{i}", b"") for i in range(99))], "table of contents"


@pytest.mark.parametrize(("name", "change", "message"), invalid_members())
def test_invalid_members_raise(saved, tmp_path, name, change, message):
    path = forge(saved[1], tmp_path / "forged", members=change)
    with pytest.raises(EncoderFileError, match=message):
        CMIMEncoder.load(path)


def test_compressed_or_large_members_raise(saved, tmp_path, monkeypatch):
    with zipfile.ZipFile(saved[1]) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(archive.MANIFEST, b" " * 10**7 + parts[archive.MANIFEST])
        file.writestr(archive.ARRAYS, parts[archive.ARRAYS])
    with pytest.raises(EncoderFileError, match=r"'manifest\.json' must not be compressed"):
        CMIMEncoder.load(tmp_path / "bomb")
    size = len(parts[archive.MANIFEST])
    monkeypatch.setattr(archive, "MAX_MANIFEST_BYTES", size - 1)
    with pytest.raises(EncoderFileError, match=f"must have at most {size - 1} bytes; got {size}"):
        CMIMEncoder.load(saved[1])
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 1000)
    with pytest.raises(EncoderFileError, match="it must have at most 1000 bytes"):
        CMIMEncoder.load(saved[1])
    with pytest.raises(
        EncoderFileError,
        match=f"The manifest must have .* {size - 1} bytes; got {size}.*arrays",
    ):
        saved[0].save(tmp_path / "large")
    monkeypatch.setattr(archive, "MAX_MANIFEST_BYTES", size)
    with pytest.raises(EncoderFileError, match=r"The file must have .* 1000 bytes; got .*network"):
        saved[0].save(tmp_path / "large")
    assert not (tmp_path / "large").exists()


def patched(data, name, offset, content):
    """Zip file as bytes, with one field in the directory entry of a member changed."""
    start = data.rindex(b"PK\1\2", 0, data.rindex(name.encode()))
    return data[: start + offset] + content + data[start + offset + len(content) :]


def test_false_sizes_in_the_zip_directory_raise(saved, tmp_path):
    data, path = saved[1].read_bytes(), tmp_path / "forged"
    huge = (2**31 - 2).to_bytes(4, "little")
    path.write_bytes(patched(data, archive.ARRAYS, 20, huge + huge))
    with pytest.raises(EncoderFileError, match=rf"members declare \d+ bytes; .*{len(data)}"):
        CMIMEncoder.load(path)
    path.write_bytes(patched(data, archive.ARRAYS, 24, huge))
    with pytest.raises(EncoderFileError, match=r"'arrays\.safetensors' must not be compressed"):
        CMIMEncoder.load(path)
    path.write_bytes(patched(data, archive.ARRAYS, 10, b"\10\0"))  # deflated
    with pytest.raises(EncoderFileError, match=r"'arrays\.safetensors' must not be compressed"):
        CMIMEncoder.load(path)
    path.write_bytes(patched(data, archive.ARRAYS, 8, b"\1\0"))  # encrypted
    with pytest.raises(EncoderFileError, match="encrypted"):
        CMIMEncoder.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 10**6, "RecursionError"),
        (b'{"a": 1, "a": 2}', "a name more than once"),
        (b'{"a": NaN}', "NaN, which is not JSON"),
        (b'{"a": -Infinity}', "-Infinity, which"),
        (b"\xff\xfe", "utf-8"),
        (b"[]", "must have the format"),
        (b'{"format": "cmim_sklearn encoder", "version": ' + b"9" * 10**5 + b"}", "digits"),
        (b'{"format": "cmim_sklearn encoder", "version": 1}', "KeyError"),
    ],
)
def test_manifests_with_invalid_json_raise(saved, tmp_path, content, message):
    path = forge(saved[1], tmp_path / "f", members=lambda p: [(p[0][0], content), p[1]])
    with pytest.raises(EncoderFileError, match=message):
        CMIMEncoder.load(path)
