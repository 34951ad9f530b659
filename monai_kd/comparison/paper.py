# SPDX-License-Identifier: Apache-2.0
"""Published numbers, and which of them were measured with the settings of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_kd.engines.case_values import Row
from monai_kd.engines.run_config import OWN_SPLIT
from monai_kd.files import read_json

__all__ = ["Paper", "PaperRow", "match_paper", "read_paper"]


@dataclass
class PaperRow:
    """One row of one of a paper's tables.

    Attributes:
        name: what the paper calls the model, with what sets the row apart.
        table: where it stands.
        metrics: the numbers by metric, in this project's units.
        model: the model of a distillation that it is; None of networks that this project does not have.
        settings: what it was measured with, by id of ``train.json``; ``"> 0"`` where the paper gives no number.
        std: standard deviations by metric, where the paper gives them.
        here: models of the comparison that were measured with these settings.
        differing: ids of the settings that differ, where there are none.
    """

    name: str
    table: str
    metrics: dict[str, float]
    model: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    std: dict[str, float] = field(default_factory=dict)
    here: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)


@dataclass
class Paper:
    """A paper's numbers: what it is, what data it is on, and the rows of its tables."""

    paper: str
    data: str
    results: list[PaperRow]


def read_paper(file: Path) -> Paper:
    """Read a bundle's ``docs/paper_results.json``.

    Its ``settings`` are those of all rows that stand for a model of a distillation, by model; a row's own come on top.

    Raises:
        FileNotFoundError: when there is none.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there are no published numbers at {file}; compare without --paper")
    content = read_json(file)
    rows = [PaperRow(**row) for row in content["results"]]
    for row in rows:
        if row.model is not None:
            row.settings = {**content["settings"].get(row.model, {}), **row.settings}
    return Paper(content["paper"], content["data"], rows)


def match_paper(paper: Paper, config: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Note with each published row the models that were trained with its settings, or else which settings differ.

    Args:
        paper: the published numbers.
        config: the configuration that was run.
        rows: the models of the comparison, with the settings in which they differ from it.

    >>> paper = Paper("", "", [PaperRow("theirs", "I", {"dice": 0.9}, "teacher", {"rate": 1})])
    >>> match_paper(paper, {"rate": 2}, [Row("teacher", "teacher", [])])
    >>> paper.results[0].here, paper.results[0].differing
    ([], ['rate'])
    """
    ids = {name for row in paper.results for name in row.settings}
    own = {
        row.name: _values(config, row.settings, ids.difference(OWN_SPLIT) if row.by_fold else ids) for row in rows
    }
    for published in paper.results:
        differing = {
            row.name: [
                name for name, value in published.settings.items() if not _agrees(value, own[row.name].get(name))
            ]
            for row in rows
            if row.model == published.model
        }
        published.here = [name for name, ids_of_row in differing.items() if not ids_of_row]
        published.differing = [] if published.here else min(differing.values(), key=len, default=[])


def _values(config: Mapping[str, Any], settings: Mapping[str, Any], ids: set[str]) -> dict[str, Any]:
    """The values that some ids have; those that are not there are left out."""
    parser = ConfigParser(dict(config))
    parser.update(dict(settings))
    found = {}
    for name in ids:
        if name in parser:
            found[name] = parser.get_parsed_content(name)
    return found


def _agrees(published: Any, own: Any) -> bool:
    if isinstance(published, str) and published.startswith("> "):
        return isinstance(own, (int, float)) and own > float(published[2:])
    return published == (list(own) if isinstance(own, tuple) else own)
