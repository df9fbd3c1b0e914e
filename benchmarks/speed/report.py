"""Write SPEED.md, tables only, from the stored measurements of a folder.

python -m benchmarks.speed.report [DIR]
"""

import json
import sys
from pathlib import Path

import pandas as pd

from benchmarks.tools import markdown

HERE = Path(__file__).parent
INTRODUCTION = """\
Written by `python -m benchmarks.speed.report` from `speed.csv`, which was measured by
`python -m benchmarks.speed.run`. Values are medians; a ratio is the median over turns in which both
sides ran."""
VERDICTS = {"True": "holds", "False": "**missed**", "": ""}


def shown(number):
    """Three significant digits, or all digits of a large number."""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def write_report(folder):
    """Write SPEED.md beside the speed.csv and context.json of a folder."""
    rows = pd.read_csv(folder / "speed.csv", dtype={"met": str}, keep_default_na=False)
    context = json.loads((folder / "context.json").read_text())
    ranges = rows["low"].map(shown) + " to " + rows["high"].map(shown)
    table = {
        "what": rows["setting"],
        "median": rows["value"].map(shown) + " " + rows["unit"],
        "range": ranges.where(rows["low"] != rows["high"], ""),
        "target": rows["target"],
        "verdict": rows["met"].map(VERDICTS),
        "size": rows["note"],
    }
    table = pd.DataFrame(table).set_axis(rows["measurement"].to_list())
    machine = pd.DataFrame({"value": context}).astype(str)
    parts = [
        "# Speed results",
        INTRODUCTION,
        markdown(table),
        "## Machine and versions",
        markdown(machine),
    ]
    (folder / "SPEED.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_report(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
