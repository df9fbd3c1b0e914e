"""Markdown tables, memory, column types and options of commands, shared by the benchmarks."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

STUDY_TABLES = ["adult", "bank_marketing", "california_housing", "german_credit", "magic_telescope"]


def number(value, digits=3, sign=""):
    """Fixed number of decimals; a dash for a missing value, and no minus before a zero."""
    return "-" if pd.isna(value) else f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def significant(value, digits=2):
    """Number with this many significant digits, or a dash for a missing value."""
    if pd.isna(value):
        return "-"
    return np.format_float_positional(value, digits, unique=False, fractional=False, trim="-")


def markdown(frame, digits=3):
    """Markdown table of a frame, with its index as the first column."""
    frame = frame.rename_axis(frame.index.name or "").reset_index()
    rows = [
        [number(v, digits) if isinstance(v, float) else str(v) for v in row]
        for row in frame.itertuples(index=False)
    ]
    lines = [[str(name) for name in frame.columns], ["---"] * frame.shape[1], *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |" for cells in lines
    )


def memory(which):
    """Resident memory of this process in MB: now ("VmRSS"), or its peak so far ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) / 1024


def numeric_columns(frame):
    """Names of the numeric columns of a pandas frame."""
    return [c for c in frame if pd.api.types.is_numeric_dtype(frame[c])]


def parser(doc, **out):
    """Parser with the options that all benchmarks have; doc is the module's docstring."""
    made = argparse.ArgumentParser(description=doc.split("\n\n")[0])
    made.add_argument("--out", type=Path, help="folder for the results", **out)
    made.add_argument("--quick", action="store_true", help="toy sizes, to test that it runs")
    return made


def save(frame, out, name):
    """Write a frame to a CSV file in a folder, which may be None."""
    if out:
        out.mkdir(parents=True, exist_ok=True)
        frame.to_csv(out / name, index=False)
