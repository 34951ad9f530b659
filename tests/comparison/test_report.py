# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from monai_kd.comparison.figures import calibration_plot, curve_plots, paired_plot, pareto_plot
from monai_kd.comparison.report import write_report
from monai_kd.comparison.results import Bin, Curve, Drawn
from monai_kd.comparison.rows import share_rows
from monai_kd.comparison.tables import write_tables

VOID = {"meta", "link", "img", "br"}


class _Page(HTMLParser):
    """The open elements, and everything that a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.references += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page(comparison, tmp_path) -> _Page:
    found = comparison(generated=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "worst.png")
    found.pictures = [
        Drawn("worst", "a.png", "dice", {"teacher": 0.5, "distilled_student": 0.25}, {"distilled_student": "worst.png"})
    ]
    parsed = _Page()
    parsed.feed(write_report(tmp_path, found).read_text())
    return parsed


def test_the_page_is_whole_and_needs_nothing_beside_itself(page):
    assert page.open == []
    assert page.references and all(reference.startswith(("data:", "#")) for reference in page.references)
    assert not {"script", "iframe", "object"} & set(page.seen)


def test_the_page_answers_and_says_what_it_is_about(page):
    for said in ("Yes, it helped", "Generated data.", "Masks <small>", "Learning curves", "batch_size = 4"):
        assert said in page.text
    assert "makes no picture of this model" in page.text  # of the teacher
    assert page.seen.count("img") == 1 and page.seen.count("svg") == 2 + 3


def test_plots_take_the_pages_colours_and_are_the_same_each_time(comparison):
    found = comparison()
    for plot in (pareto_plot, paired_plot):
        svg = plot(found)
        assert svg.startswith("<svg") and "currentColor" in svg and "var(--line)" in svg and "#010203" not in svg
        assert plot(found) == svg


def test_what_there_is_nothing_of_is_not_drawn(comparison):
    found = comparison({"student_alone": 0.5})
    assert paired_plot(found) == "" and calibration_plot(found) == ""
    own = found.models["student_alone"]
    own.effort = replace(own.effort, network_ms=None)
    assert pareto_plot(found) == ""


def test_curves_are_of_all_models_for_validation_and_of_the_distillation_for_the_rest(comparison):
    plots = curve_plots(comparison())
    assert list(plots) == ["validation: dice", "distillation: total loss", "loss on the truth"]


def test_what_is_computed_in_training_stands_beside_the_validations(comparison):
    epoch = {"epoch": 1, "iterations": 5, "seconds": 1, "loss": 0.9, "accuracy": 0.5, "val_loss": 0.8}
    plots = curve_plots(comparison(epochs=[{**epoch, "val_accuracy": 0.4, "val_mean_dice": 0.3}]))
    assert list(plots) == [
        "training (dashed) and validation: loss",
        "training (dashed) and validation: accuracy",
        "validation: dice",
        "distillation: total loss",
    ]
    assert "stroke-dasharray: 4.44" in plots["training (dashed) and validation: accuracy"]
    assert "stroke-dasharray: 4.44" not in plots["validation: dice"]


def test_shares_of_the_gradient_are_a_table_and_no_curves(comparison, tmp_path):
    shares = {"gradient_share_task": 0.75, "gradient_share_soft-target": 0.25}
    own = {"iterations": 5, "seconds": 1, "loss": 0.5}
    epochs = [{"epoch": number, **own} for number in (1, 2)]
    found = comparison(epochs=[{**epochs[0], **shares}, {**epochs[1], **dict.fromkeys(shares, "")}])
    assert found.models["distilled_student"].gradient_shares == {"task": 0.75, "soft-target": 0.25}
    assert not any("share" in title for title in curve_plots(found))
    write_tables(tmp_path, found)
    assert "| soft-target | 25 % |" in (tmp_path / "table.md").read_text()
    assert "<td>25 %</td>" in write_report(tmp_path, found).read_text()
    assert share_rows(comparison()) == []


def test_an_epoch_that_is_not_finite_is_shown(comparison):
    found = comparison()
    whole = curve_plots(found)["loss on the truth"]
    assert "not finite" not in whole
    found.models["distilled_student"].curves["task"] = Curve([1, 2], [0.5, float("nan")])
    assert "not finite" in curve_plots(found)["loss on the truth"]


def test_a_classification_has_a_calibration_plot(comparison):
    found = comparison()
    found.calibration = {"teacher": [Bin(confidence=0.6, accuracy=0.5, cases=4)]}
    assert "share of right cases" in calibration_plot(found)
