# SPDX-License-Identifier: Apache-2.0
import logging
import warnings

import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer, SlidingWindowInferer

from monai_kd.comparison.effort import MeteredInferer, Stopwatch, say_only_what_goes_wrong

CPU = torch.device("cpu")


def test_multiply_accumulates_by_hand():
    network = torch.nn.Conv2d(3, 5, kernel_size=3, padding=1)
    meter = MeteredInferer(SimpleInferer(), CPU)
    image = torch.zeros(1, 3, 8, 10)
    expected = network(image)
    torch.testing.assert_close(meter(image, network), expected)
    assert meter.multiply_accumulates == 8 * 10 * 5 * 3 * 3 * 3 and meter.seconds == []
    meter(image, network)
    assert len(meter.seconds) == 1


def test_a_sliding_window_counts_every_window():
    meter = MeteredInferer(SlidingWindowInferer(roi_size=4, overlap=0), CPU)
    meter(torch.zeros(1, 1, 8, 8), torch.nn.Conv2d(1, 1, 1))
    assert meter.multiply_accumulates == 64


def test_what_cannot_be_counted_is_unknown():
    meter = MeteredInferer(SimpleInferer(), CPU)
    meter(torch.zeros(1, 1, 2, 2), torch.nn.Identity())
    assert meter.multiply_accumulates is None


def test_the_stopwatch_leaves_out_the_first_case_and_stops_the_evaluator():
    loader = DataLoader(Dataset([{"image": torch.zeros(1, 2, 2), "label": torch.zeros(1)}] * 6), batch_size=1)
    calls = []
    evaluator = SupervisedEvaluator(
        device=CPU,
        val_data_loader=loader,
        network=torch.nn.Identity(),
        postprocessing=lambda sample: calls.append(1) or sample,
    )
    watch = Stopwatch(3, CPU)
    watch.attach(evaluator)
    evaluator.run()
    assert len(watch.seconds) == 3 and min(watch.seconds) > 0
    assert len(calls) == 4  # the time is taken behind the postprocessing


def test_the_process_that_measures_neither_warns_nor_logs(caplog):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        try:
            say_only_what_goes_wrong()
            warnings.warn("NvImgCodecPydicomReader: nvImageCodec decoder plugin did not register", stacklevel=1)
            logging.getLogger("monai").warning("4 inputs to do")
            logging.getLogger("monai").error("no such file")
        finally:
            logging.disable(logging.NOTSET)
    assert warned == [] and caplog.messages == ["no such file"]
