"""Which number format a transformer computes in."""

import contextlib
from typing import Literal, cast

import torch

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS = ("auto", "float32", "bfloat16")


def check_precision(precision: str) -> Precision:
    """Raise ValueError unless the name is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ValueError(f"Unknown precision {precision!r}: use one of {', '.join(PRECISIONS)}.")
    return cast(Precision, precision)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware.

    A CPU without such instructions emulates them: on AVX2 alone one step takes
    over ten times as long as in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        cpu = torch.cpu.get_capabilities()
        return any(cpu.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager:
    """The context in which to run a forward pass; weights and gradients stay float32."""
    if precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
