# SPDX-License-Identifier: Apache-2.0
"""Pages that MkDocs makes from what stands elsewhere: README, the bundles' pages with all settings, verbs, the API."""

from __future__ import annotations

import ast
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("losses", "networks", "handlers", "engines", "data", "transforms", "metrics")
BUNDLES = sorted(folder.parents[1].name for folder in ROOT.glob("bundle/*/docs/README.md"))
FILES = ("train.json", "inference.json")
SOURCES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "tutorial.md": "docs/tutorial.ipynb",
    **{f"bundles/{name}.md": f"bundle/{name}/docs/README.md" for name in BUNDLES},
    **{
        f"bundles/{name}_model_card.md": f"bundle/{name}/docs/model_card.md"
        for name in BUNDLES
        if (ROOT / "bundle" / name / "docs" / "model_card.md").is_file()
    },
}
"""Pages of the site that are files elsewhere in the checkout."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    pages = {page: (ROOT / source).read_text("utf-8") for page, source in SOURCES.items() if source.endswith(".md")}
    for name in BUNDLES:
        pages[f"bundles/{name}.md"] += "\n".join(["", *settings(name), *published(name), ""])
    pages["verbs.md"] = _verbs()
    pages |= {f"api/{room}.md": _reference(room) for room in ROOMS}
    pages["tutorial.md"], outputs = MarkdownExporter().from_filename(str(ROOT / "docs" / "tutorial.ipynb"))
    for name, picture in outputs["outputs"].items():
        files.append(File.generated(config, name, content=picture))
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links are seen from where a file lies in the checkout; in the site it lies elsewhere."""
    here = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(here, f"docs/{here}"))
    moved = {source: name for name, source in SOURCES.items()}

    def seen_from_here(link: re.Match[str]) -> str:
        text, target, anchor = link[1], " ".join(link[2].split()), link[3] or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        name = moved.get(path, path.removeprefix("docs/"))
        if name == "settings.json" and here.startswith("bundles/"):
            return f"[{text}](#settings)"
        if files.get_file_from_path(name) is None and (ROOT / path).exists():
            return text  # a file of the checkout that is no page
        return f"[{text}]({posixpath.relpath(name, posixpath.dirname(here) or '.')}{anchor})"

    parts = re.split(r"(^[ ]*```.*?^[ ]*```)", markdown, flags=re.DOTALL | re.MULTILINE)
    link = re.compile(r"(?<!!)\[([^\[\]]*)\]\((?!\w+:|#)([^)#]+)(#[^)]*)?\)")
    text = "".join(part if "```" in part else link.sub(seen_from_here, part) for part in parts)
    # Pictures that are dark on dark pages are in tags, which MkDocs leaves as they are.
    images = posixpath.relpath("images", posixpath.dirname(here) or ".")
    return re.sub(r'="(\.\./)*docs/images/', f'="{images}/', text)


def meanings(bundle: str) -> dict[str, str]:
    """What each setting of a bundle says: docs/settings.json, and the contract of all bundles."""
    from monai_kd.contract import CONTRACT

    told = json.loads((ROOT / "docs" / "settings.json").read_text("utf-8"))
    return {entry.key: entry.meaning for entry in CONTRACT} | told["shared"] | told.get(bundle, {})


def defaults(bundle: str) -> dict[str, dict[str, Any]]:
    """By id, its value in each of the two files that has it."""
    found: dict[str, dict[str, Any]] = {}
    for file in FILES:
        content = json.loads((ROOT / "bundle" / bundle / "configs" / file).read_text("utf-8"))
        for key, value in content.items():
            found.setdefault(key, {})[file] = value
    return found


def settings(bundle: str) -> Iterator[str]:
    """The table of a bundle's settings, in the order in which its files have them."""
    told = meanings(bundle)
    yield from ["## Settings", ""]
    yield from ["Ids of the configurations, as `key=value` for `monai_kd` or `--key value` for MONAI."]
    yield from ["", "| id | train.json | inference.json | says |", "|---|---|---|---|"]
    for key, values in defaults(bundle).items():
        if key in told:
            cells = [_cell(values[file]) if file in values else "" for file in FILES]
            yield f"| `{key}` | {' | '.join(cells)} | {told[key]} |"


def published(bundle: str) -> Iterator[str]:
    """The table of the numbers that a bundle's paper has."""
    told = json.loads((ROOT / "bundle" / bundle / "docs" / "paper_results.json").read_text("utf-8"))
    metrics = list(dict.fromkeys(metric for row in told["results"] for metric in row["metrics"]))
    yield from ["", '??? note "The paper\'s own numbers"', f"    {told['paper']}. {told['data']}", ""]
    yield f"    | row | where | {' | '.join(metrics)} |"
    yield "    |---|---|" + "---|" * len(metrics)
    for row in told["results"]:
        numbers = " | ".join(str(row["metrics"].get(metric, "")) for metric in metrics)
        yield f"    | {row['name']} | {row['table']} | {numbers} |"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"`{value['_target_'].rpartition('.')[2]}`" if "_target_" in value else "a table"
    if isinstance(value, float):
        return f"`{value:.6g}`"
    text = json.dumps(value, ensure_ascii=False).replace("|", "\\|")
    if len(text) < (30 if text.startswith('"$') else 45):
        return f"`{text}`"
    return "a list" if isinstance(value, list) else "computed"


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
