# SPDX-License-Identifier: Apache-2.0
import copy
import pickle

import pytest
from monai.bundle import ConfigParser

from monai_kd.data import UnavailableData, require


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))])
def test_reason_survives_copies(duplicate):
    assert duplicate(UnavailableData("why")).reason == "why"


def test_require_in_a_bundle(tmp_path):
    config = {
        "imports": ["$import monai_kd"],
        "datalist": {"_target_": "monai_kd.data.figshare_datalist", "dataset_dir": str(tmp_path / "nowhere")},
        "dataset": {"_target_": "monai.data.Dataset", "data": "$@datalist['training']"},
        "initialize": ["$monai_kd.data.require(@datalist['training'])"],
    }
    parser = ConfigParser(config)
    parser.get_parsed_content("imports")
    assert len(parser.get_parsed_content("dataset")) == 0
    with pytest.raises(RuntimeError) as error:
        parser.get_parsed_content("initialize")
    assert isinstance(error.value.__cause__, FileNotFoundError)


def test_require_refuses_any_empty_list():
    require([1], [{"image": "1.png"}])
    with pytest.raises(ValueError, match="is empty"):
        require([1], [])
