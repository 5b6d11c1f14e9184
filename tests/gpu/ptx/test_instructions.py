"""What the machine's instructions compute."""

import pytest
import torch
from ptx_on_cpu import machine
from ptx_on_cpu.small_kernel import result

pytestmark = pytest.mark.skipif(machine.library() is None, reason="no g++ here")


def floats(*special: float) -> torch.Tensor:
    return torch.cat([torch.tensor(special, dtype=torch.float32), 20 * torch.randn(64 - len(special))])


def whole(seed: int = 0) -> torch.Tensor:
    words = torch.randint(-(2**31), 2**31, (64,), generator=torch.Generator().manual_seed(seed)).to(torch.int32)
    words[:6] = torch.tensor([0, 1, -1, 2**31 - 1, -(2**31), 7])
    return words


LOAD, STORE = "ld.global.b32 %r5, [%rd4];", "st.global.b32 [%rd5], %r6;"
LOAD_FLOAT, STORE_FLOAT = "ld.global.f32 %f1, [%rd4];", "st.global.f32 [%rd5], %f2;"

WHOLE = {
    "add.s32 %r6, %r5, -5": lambda x: x - 5,
    "mul.lo.s32 %r6, %r5, 77777": lambda x: x * 77777,
    "mul.hi.s32 %r6, %r5, 77777": lambda x: x * 77777 >> 32,
    "mad.lo.s32 %r6, %r5, %r5, 3": lambda x: x * x + 3,
    "shr.s32 %r6, %r5, 3": lambda x: x >> 3,
    "shr.u32 %r6, %r5, 40": lambda x: 0,
    "shl.b32 %r6, %r5, 33": lambda x: 0,
    "and.b32 %r6, %r5, -8": lambda x: x & -8,
    "not.b32 %r6, %r5": lambda x: ~x,
    "neg.s32 %r6, %r5": lambda x: -x,
    "min.s32 %r6, %r5, 12": lambda x: min(x, 12),
    "max.u32 %r6, %r5, 12": lambda x: max(x % 2**32, 12),
    "div.s32 %r6, %r5, 7": lambda x: abs(x) // 7 * (1 if x >= 0 else -1),
    "rem.u32 %r6, %r5, 7": lambda x: x % 2**32 % 7,
    "div.u32 %r6, %r5, 0": lambda x: -1,
    "brev.b32 %r6, %r5": lambda x: int(f"{x % 2**32:032b}"[::-1], 2),
    "bfind.shiftamt.u32 %r6, %r5": lambda x: 32 - (x % 2**32).bit_length() if x else -1,
    "popc.b32 %r6, %r5": lambda x: bin(x % 2**32).count("1"),
    "cvt.s32.s16 %r6, %r5": lambda x: (x + 2**15) % 2**16 - 2**15,
    "cvt.u32.u8 %r6, %r5": lambda x: x % 256,
    "cvt.s64.s32 %rd6, %r5; shr.s64 %rd6, %rd6, 33; cvt.u32.u64 %r6, %rd6": lambda x: x >> 33,
    "mul.wide.s32 %rd6, %r5, %r5; shr.u64 %rd6, %rd6, 40; cvt.u32.u64 %r6, %rd6": lambda x: x * x >> 40,
    "cvt.u64.u32 %rd6, %r5; cvt.s64.s32 %rd7, %rd6; shr.s64 %rd7, %rd7, 4; cvt.u32.u64 %r6, %rd7": lambda x: x >> 4,
    "mov.b64 %rd6, {%r5, %r1}; mov.b64 {%r7, %r6}, %rd6; xor.b32 %r6, %r6, %r7; xor.b32 %r6, %r6, %r1": lambda x: x,
    "setp.lt.s32 %p1, %r5, 0; selp.b32 %r6, 1, 2, %p1": lambda x: 1 if x < 0 else 2,
    "setp.gt.u32 %p1, %r5, 5; not.pred %p2, %p1; selp.b32 %r6, 1, 2, %p2": lambda x: 1 if x % 2**32 <= 5 else 2,
    "mov.u32 %r6, 9; setp.lt.s32 %p1, %r5, 0; @!%p1 mov.u32 %r6, 8": lambda x: 9 if x < 0 else 8,
}


@pytest.mark.parametrize("body", WHOLE)
def test_whole_numbers(body):
    words = whole()
    expected = torch.tensor([(WHOLE[body](x) + 2**31) % 2**32 - 2**31 for x in words.tolist()])
    assert result(f"{LOAD} {body}; {STORE}", words).tolist() == expected.tolist()


def to_int32(x: torch.Tensor) -> torch.Tensor:
    return x.nan_to_num(0).clamp(-(2**31), 2**31 - 1).trunc()


FLOATS = {
    "add.f32 %f2, %f1, 0f3FC00000": lambda x: x + 1.5,
    "mul.f32 %f2, %f1, 0fC0000000": lambda x: x * -2,
    "fma.rn.f32 %f2, %f1, %f1, %f1": lambda x: (x.double() * x + x).float(),
    "div.rn.f32 %f2, 0f3F800000, %f1": lambda x: 1 / x,
    "sqrt.rn.f32 %f2, %f1": torch.sqrt,
    "neg.f32 %f2, %f1": lambda x: -x,
    "abs.f32 %f2, %f1": torch.abs,
    "min.f32 %f2, %f1, 0f3F800000": lambda x: torch.where(x.isnan(), 1, x.clamp(max=1)),
    "cvt.rzi.s32.f32 %r6, %f1; cvt.rn.f32.s32 %f2, %r6": lambda x: to_int32(x.double()).float(),
    "cvt.f64.f32 %rd6, %f1; cvt.rn.f32.f64 %f2, %rd6": lambda x: x,
    "setp.ltu.f32 %p1, %f1, 0f00000000; selp.f32 %f2, 0f3F800000, 0f00000000, %p1": lambda x: (~(x >= 0)).float(),
    "setp.ne.f32 %p1, %f1, %f1; selp.f32 %f2, 0f3F800000, 0f00000000, %p1": lambda x: torch.zeros_like(x),
    "setp.neu.f32 %p1, %f1, %f1; selp.f32 %f2, 0f3F800000, 0f00000000, %p1": lambda x: x.isnan().float(),
}  # fmt: skip


@pytest.mark.parametrize("body", FLOATS)
def test_floats(body):
    x = floats(0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-40, 3e38, -3e9)
    torch.testing.assert_close(
        result(f"{LOAD_FLOAT} {body}; {STORE_FLOAT}", x), FLOATS[body](x), rtol=0, atol=0, equal_nan=True
    )


def test_powers_of_two_are_as_good_as_the_hardwares():
    x = floats(0.0, 127.9, 128.0, -126.5, -149.0, -200.0, float("inf"), -float("inf"), float("nan"))
    found = result(f"{LOAD_FLOAT} ex2.approx.f32 %f2, %f1; {STORE_FLOAT}", x)
    torch.testing.assert_close(found, torch.exp2(x.double()).float(), rtol=3e-7, atol=1e-44, equal_nan=True)
