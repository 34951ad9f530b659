# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from monai_kd.engines import read_epochs
from monai_kd.engines.epoch_table import add_epoch, drop_epochs


def test_epochs_are_read_as_they_were_written(tmp_path):
    rows = [{"epoch": 1, "soft-target": 0.1 + 0.2, "a-x": 1e-12, "b-x": -3.0}, {"epoch": 2, "soft-target": 1e300}]
    for row in rows:
        add_epoch(tmp_path / "distillation.csv", row)
    assert read_epochs(tmp_path / "distillation.csv") == rows


def test_what_is_no_finite_number_is_kept_and_what_was_not_computed_has_an_empty_cell(tmp_path):
    table = tmp_path / "teacher.csv"
    add_epoch(table, {"epoch": 1, "loss": 0.5})
    add_epoch(table, {"epoch": 2, "loss": math.inf, "auroc": math.nan})
    assert table.read_text().splitlines() == ["epoch,loss,auroc", "1,0.5,", "2,inf,nan"]
    first, second = read_epochs(table)
    assert first == {"epoch": 1, "loss": 0.5}
    assert second["loss"] == math.inf and math.isnan(second["auroc"])


def test_an_epoch_that_is_trained_again_replaces_its_row_and_those_after(tmp_path):
    table = tmp_path / "teacher.csv"
    for epoch in (1, 2, 3):
        add_epoch(table, {"epoch": epoch, "loss": epoch})
    add_epoch(table, {"epoch": 2, "loss": 0.5, "waiting": 0.1})
    assert read_epochs(table) == [{"epoch": 1, "loss": 1}, {"epoch": 2, "loss": 0.5, "waiting": 0.1}]
    drop_epochs(table, after=1)
    assert read_epochs(table) == [{"epoch": 1, "loss": 1}]
    drop_epochs(table, after=0)
    assert read_epochs(table) == [] and not any(tmp_path.iterdir())


def test_a_stage_that_was_not_begun_has_no_epochs(tmp_path):
    assert read_epochs(tmp_path / "none.csv") == []


def test_a_write_that_fails_leaves_the_rows_of_before(tmp_path, monkeypatch):
    table = tmp_path / "teacher.csv"
    add_epoch(table, {"epoch": 1, "loss": 0.5})

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("monai_kd.csv_tables.cell", full)
    with pytest.raises(OSError, match="no space"):
        add_epoch(table, {"epoch": 2, "loss": 0.4})
    assert read_epochs(table) == [{"epoch": 1, "loss": 0.5}]


@pytest.mark.parametrize("text", ["epoch,loss\n1,high\n", "a,b\n1,2\n", "epoch,loss\n1,2,3\n"])
def test_another_table_is_refused_by_name(tmp_path, text):
    (tmp_path / "teacher.csv").write_text(text)
    with pytest.raises(ValueError, match="teacher.csv is no table of epochs"):
        read_epochs(tmp_path / "teacher.csv")
