"""A kernel of 64 threads around a few instructions, for tests of the machine."""

from __future__ import annotations

from ctypes import Structure, c_uint64

import torch

from ptx_on_cpu.arrays import Arrays
from ptx_on_cpu.driver import PtxDriver

HEAD = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry kernel(.param .u64 kernel_a, .param .u64 kernel_b)
.maxntid 64, 1, 1
{
    .reg .pred %p<8>;
    .reg .b16 %rs<8>;
    .reg .b32 %r<16>;
    .reg .f32 %f<8>;
    .reg .b64 %rd<16>;
    .shared .align 8 .b8 room[256];
    .local .align 8 .b8 own[16];
    ld.param.u64 %rd1, [kernel_a];
    ld.param.u64 %rd2, [kernel_b];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd3, %r1, 4;
    add.s64 %rd4, %rd1, %rd3;
    add.s64 %rd5, %rd2, %rd3;
    mov.u32 %r2, room;
    shl.b32 %r3, %r1, 2;
    add.s32 %r3, %r2, %r3;
"""
"""In every thread: addresses of its words of two arrays in rd4 and rd5, of its word of shared memory in r3."""


class Arguments(Structure):
    _fields_ = (("a", c_uint64), ("b", c_uint64))


def launch(body: str, a: torch.Tensor, b: torch.Tensor, blocks: int = 1, seed: int = 0, threads: int = 64) -> PtxDriver:
    with Arrays().watched() as arrays:
        driver = PtxDriver(arrays, seed)
        function = driver.function(driver.load(0, (HEAD + body + "\n    ret;\n}\n").encode()), "kernel")
        driver.launch(0, function, blocks, threads, 0, Arguments(a.data_ptr(), b.data_ptr()))
    return driver


def result(body: str, a: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """What 64 threads make of a word each."""
    out = torch.zeros(64, dtype=dtype or a.dtype)
    launch(body, a, out)
    return out
