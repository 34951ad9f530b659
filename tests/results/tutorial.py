# SPDX-License-Identifier: Apache-2.0
"""Execute docs/tutorial.ipynb in a temporary folder and keep its outputs.

    python tests/results/tutorial.py

Needs the extras `docs` and `export`. The clock, this machine's paths and complaints about its Jupyter are taken out of
what is kept.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
LARGEST = 300_000  # bytes


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """A cell's outputs with what it prints in one piece, and one form of each picture."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if "image/png" in output.get("data", {}):
            output.data.pop("image/jpeg", None)
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def main() -> None:
    """Execute and write."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        for path, shown in ((folder, "tutorial"), (str(ROOT), "monai_kd")):
            text = text.replace(path, shown)
    text = re.sub(r"\b\d\d:\d\d:\d\d ", "", text)
    notebook = nbformat.from_dict(json.loads(text))
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = nbformat.from_dict({}), f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    notebook.metadata = nbformat.from_dict({"language_info": {"name": "python"}})
    text = nbformat.writes(notebook) + "\n"
    if len(text) > LARGEST:
        raise ValueError(f"the notebook has {len(text)} bytes, more than {LARGEST}")
    NOTEBOOK.write_text(text, "utf-8")
    print(f"{len(text)} bytes in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
