# SPDX-License-Identifier: Apache-2.0
"""Words that must be one of those that are known."""

import pytest

from monai_kd.names import check_known, closest, closest_names, hint


def test_a_known_word_passes_and_another_gets_the_closest_or_all():
    check_known("teacher", ["student", "teacher"], "stage")
    with pytest.raises(ValueError, match="^unknown stage 'techer'; did you mean 'teacher'[?]$"):
        check_known("techer", ["student", "teacher"], "stage")
    with pytest.raises(ValueError, match="^unknown stage 'x'; there are: student, teacher$"):
        check_known("x", ["student", "teacher"], "stage")
    with pytest.raises(ValueError, match="there are: none$"):
        check_known("x", [], "stage")


def test_the_closest_come_first_and_only_those_that_are_close():
    choices = ["conv1", "conv12", "head"]
    assert closest("conv1", choices, count=3) == ["conv1", "conv12"]
    assert closest("con", choices, cutoff=0.9) == [] and hint("xyz", choices) == ""
    assert closest_names("xyz", choices) == "closest names: none"
    assert hint("haed", iter(choices)) == "did you mean 'head'?"
