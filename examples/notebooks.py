"""Convert each example script to a notebook with outputs.

``python examples/notebooks.py`` executes and writes all notebooks, ``python examples/notebooks.py
plot_map`` writes one. ``--text`` updates only text and comments, and keeps the outputs of notebooks
whose code is unchanged. Needs ``pip install ".[examples,notebooks]"``.

The docstring of a script and the comment below each ``# %%`` become text cells. The code between
them becomes code cells.
"""

import ast
import re
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = sorted({*HERE.glob("*.py")} - {Path(__file__)})
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def cells(script):
    """Return the cells of a script as pairs of "markdown" or "code" and source."""
    _, docstring, code = script.read_text(encoding="utf-8").split('"""', maxsplit=2)
    head, *parts = re.split(r"^# %%\n", code, flags=re.M)
    found = [("markdown", docstring), ("code", head)]
    for part in parts:
        comment, code = re.fullmatch(r"((?:#[^\n]*\n)*)(.*)", part, flags=re.S).groups()
        found += [("markdown", re.sub("^# ?", "", comment, flags=re.M)), ("code", code)]
    return [(kind, source.strip()) for kind, source in found if source.strip()]


def notebook(script):
    """Convert a script to a notebook without outputs."""
    from nbformat import v4

    make = {"markdown": v4.new_markdown_cell, "code": v4.new_code_cell}
    return v4.new_notebook(
        cells=[
            make[kind](source, id=f"cell-{n}") for n, (kind, source) in enumerate(cells(script))
        ],
        metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}},
    )


def execute(nb):
    """Run all cells of a notebook in the folder of the examples, and return the notebook."""
    from nbclient import NotebookClient

    metadata = nb.metadata.copy()
    NotebookClient(
        nb, timeout=900, record_timing=False, resources={"metadata": {"path": str(HERE)}}
    ).execute()
    nb.metadata = metadata  # without the Python version
    return nb


def with_outputs_of(nb, old):
    """Copy outputs from an old notebook with the same code; raise ValueError if code differs."""
    new, old = ([c for c in n.cells if c.cell_type == "code"] for n in (nb, old))
    if [ast.dump(ast.parse(c.source)) for c in new] != [ast.dump(ast.parse(c.source)) for c in old]:
        raise ValueError("the code has changed; run without --text")
    for cell, former in zip(new, old, strict=True):
        cell.outputs, cell.execution_count = former.outputs, former.execution_count
    return nb


def main(arguments):
    """Write the notebooks of the named scripts, or of all scripts."""
    import nbformat

    names = [name.removesuffix(".py") for name in arguments if name != "--text"]
    known = {script.stem: script for script in SCRIPTS}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"Unknown example {', '.join(unknown)}. Examples: {', '.join(known)}.")
    for name in names or known:
        start = time.perf_counter()
        nb, path = notebook(known[name]), HERE / f"{name}.ipynb"
        if "--text" in arguments:
            nb = with_outputs_of(nb, nbformat.read(path, as_version=4))
        else:
            nb = execute(nb)
        nbformat.write(nb, path)
        print(f"{path.name}, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
