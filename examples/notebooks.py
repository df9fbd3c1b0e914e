"""Write each example as a notebook beside it, executed, with its outputs.

``python examples/notebooks.py`` writes all of them, ``python examples/notebooks.py plot_map`` one.
A notebook has the cells of its script: the docstring and the comment below each ``# %%`` as text,
the code below that as code. It needs ``pip install ".[examples,notebooks]"``.
"""

import re
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = sorted({*HERE.glob("*.py")} - {Path(__file__)})
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def cells(script):
    """Return the cells of a script: pairs of "markdown" or "code", and what they hold."""
    _, docstring, code = script.read_text(encoding="utf-8").split('"""', maxsplit=2)
    head, *parts = re.split(r"^# %%\n", code, flags=re.M)
    found = [("markdown", docstring), ("code", head)]
    for part in parts:
        comment, code = re.fullmatch(r"((?:#[^\n]*\n)*)(.*)", part, flags=re.S).groups()
        found += [("markdown", re.sub("^# ?", "", comment, flags=re.M)), ("code", code)]
    return [(kind, source.strip()) for kind, source in found if source.strip()]


def notebook(script):
    """Return a script as a notebook without outputs."""
    from nbformat import v4

    make = {"markdown": v4.new_markdown_cell, "code": v4.new_code_cell}
    return v4.new_notebook(
        cells=[
            make[kind](source, id=f"cell-{n}") for n, (kind, source) in enumerate(cells(script))
        ],
        metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}},
    )


def execute(nb):
    """Run a notebook from top to bottom, in the folder of the examples, and return it."""
    from nbclient import NotebookClient

    metadata = nb.metadata.copy()
    NotebookClient(
        nb, timeout=900, record_timing=False, resources={"metadata": {"path": str(HERE)}}
    ).execute()
    nb.metadata = metadata  # without the version of this Python
    return nb


def main(names):
    """Write the notebooks of the named scripts, or of all."""
    import nbformat

    known = {script.stem: script for script in SCRIPTS}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"No example is called {', '.join(unknown)}. There are: {', '.join(known)}.")
    for name in names or known:
        start = time.perf_counter()
        nb = execute(notebook(known[name]))
        nbformat.write(nb, HERE / f"{name}.ipynb")
        print(f"{name}.ipynb, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main([name.removesuffix(".py") for name in sys.argv[1:]])
