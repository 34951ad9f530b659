# SPDX-License-Identifier: Apache-2.0
"""Pages that MkDocs makes from what stands elsewhere: README, the bundles' pages, ids, verbs, the API reference."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("losses", "networks", "handlers", "engines", "data", "transforms", "metrics")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    pages = {"index.md": _front_page(), "contributing.md": (ROOT / "CONTRIBUTING.md").read_text("utf-8")}
    pages["ids.md"], pages["verbs.md"] = _ids(), _verbs()
    for folder in _bundles():
        pages[f"bundles/{folder.name}.md"] = (folder / "docs" / "README.md").read_text("utf-8")
    for room in ROOMS:
        pages[f"api/{room}.md"] = _reference(room)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def _bundles() -> list[Path]:
    return sorted(folder.parent.parent for folder in ROOT.glob("bundle/*/docs/README.md"))


def _front_page() -> str:
    """README.md, whose links are seen from the checkout, as a page of the site."""
    text = (ROOT / "README.md").read_text("utf-8").replace("](docs/", "](")
    text = text.replace("](CONTRIBUTING.md)", "](contributing.md)")
    return re.sub(r"\]\(bundle/(\w+)/docs/README\.md", r"](bundles/\1.md", text)


def _ids() -> str:
    """Every bundle's settings that have a plain default."""
    lines = ["# Ids by bundle", ""]
    lines += ["Ids that hold plain values, as they stand in each bundle's configurations. What they mean"]
    lines += ["is on the bundles' own pages; those that all bundles share are in [the contract](contract.md)."]
    for folder in _bundles():
        for file in ("train.json", "inference.json"):
            told: dict[str, Any] = json.loads((folder / "configs" / file).read_text("utf-8"))
            lines += ["", f"## {folder.name}: {file}", "", "| id | default |", "|---|---|"]
            for key, value in told.items():
                if not key.startswith("_") and not isinstance(value, dict) and len(cell := json.dumps(value)) < 90:
                    lines.append(f"| `{key}` | `{cell.replace(chr(124), chr(92) + chr(124))}` |")
    return "\n".join(lines) + "\n"


def _verbs() -> str:
    """What the verbs' own help says."""
    from monai_kd.cli import VERBS

    lines = ["# Verbs and their options", ""]
    lines += [f"::: {verb.__module__}.{verb.__qualname__}\n" for verb in VERBS.values()]
    return "\n".join(lines)


def _reference(room: str) -> str:
    tree = ast.parse((ROOT / "monai_kd" / room / "__init__.py").read_text("utf-8"))
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
    return "\n\n".join([f"# monai_kd.{room}", *(f"::: monai_kd.{room}.{name}" for name in names)]) + "\n"
