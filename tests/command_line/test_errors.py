# SPDX-License-Identifier: Apache-2.0
"""Errors in one line."""

import pytest

from monai_kd.command_line.errors import reason


def test_what_torch_says_about_other_weights_is_one_line():
    nn = pytest.importorskip("torch").nn
    saved = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1), nn.Linear(1, 1)).state_dict()
    with pytest.raises(RuntimeError) as error:
        nn.Sequential(nn.Linear(2, 4), nn.Linear(3, 1), nn.Identity(), nn.Linear(1, 1)).load_state_dict(saved)
    assert reason(error.value) == (
        "these weights belong to another network: 2 missing (such as 3.weight), 2 unexpected (such as 2.weight), "
        "2 of another shape (such as 0.weight); name the --run that they were trained in, or other weights"
    )


def test_a_newline_in_a_name_is_no_end_of_a_sentence():
    assert reason(ValueError("a\nb.png is damaged.\n  Try another")) == "a\\nb.png is damaged. Try another"
