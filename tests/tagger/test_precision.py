import pytest
import torch
from metaie.tagger.precision import autocast, check_precision, has_fast_bfloat16


def test_unknown_precision_is_refused() -> None:
    assert check_precision("bfloat16") == "bfloat16"
    with pytest.raises(ValueError, match="float16"):
        check_precision("float16")


def test_what_the_forward_pass_computes_in() -> None:
    device = torch.device("cpu")
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with autocast("bfloat16", device):
        assert layer(x).dtype == torch.bfloat16
    with autocast("float32", device):
        assert layer(x).dtype == torch.float32
    with autocast("auto", device):
        expected = torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
        assert layer(x).dtype == expected
