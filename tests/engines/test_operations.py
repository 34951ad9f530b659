# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from monai_kd.engines import count_operations

TOKENS, WIDTH, HIDDEN = 10, 8, 32


@pytest.mark.parametrize("training", [True, False])
def test_a_transformer_counts_by_hand_also_where_pytorch_fuses_it(training):
    layer = nn.TransformerEncoderLayer(WIDTH, nhead=2, dim_feedforward=HIDDEN, dropout=0.0, batch_first=True)
    with torch.no_grad(), count_operations() as counter:
        layer.train(training)(torch.rand(1, TOKENS, WIDTH))
    projections = TOKENS * WIDTH * 4 * WIDTH  # query, key, value and output
    attention = 2 * TOKENS * TOKENS * WIDTH
    assert counter.get_total_flops() / 2 == projections + attention + 2 * TOKENS * WIDTH * HIDDEN
    assert torch.backends.mha.get_fastpath_enabled()
