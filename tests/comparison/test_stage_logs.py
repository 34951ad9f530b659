# SPDX-License-Identifier: Apache-2.0
from monai_kd.comparison.stage_logs import read_stage_log

LINES = (
    "INFO distillation: 3 epochs of 42 iterations, in /runs/a",
    "INFO distillation: epoch 1/3: loss 0.5, task 1e-05, val_mean_dice 0.25, best val_mean_dice 0.25 in epoch 1, 4.0 s",
    "INFO distillation: epoch 2/3: loss -0.25, task 2.5e+03, best val_mean_dice 0.2500 in epoch 1, 6.0 s",
)
LOG = "".join(f"2026-01-01 10:00:00,000 {line}\n" for line in LINES)


def test_steps_curves_and_seconds_are_read(tmp_path):
    (tmp_path / "a.log").write_text(LOG)
    log = read_stage_log(tmp_path / "a.log")
    assert (log.epochs, log.iterations, log.steps) == (3, 42, 126)
    assert log.curve("loss") == ([1, 2], [0.5, -0.25]) and log.curve("task") == ([1, 2], [1e-5, 2.5e3])
    assert log.curve("val_mean_dice") == ([1], [0.25])  # not the best one, which every line repeats
    assert log.seconds_per_epoch == 5


def test_what_was_trained_twice_counts_the_last_time(tmp_path):
    (tmp_path / "a.log").write_text(LOG + LOG.replace("loss 0.5", "loss 0.125"))
    assert read_stage_log(tmp_path / "a.log").curve("loss") == ([1, 2], [0.125, -0.25])


def test_a_stage_that_has_not_begun(tmp_path):
    log = read_stage_log(tmp_path / "none.log")
    assert log.steps == 0 and log.seconds_per_epoch is None
