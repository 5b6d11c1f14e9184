"""Every fault that the machine looks for, and what is none."""

import struct

import pytest
import torch
from ptx_on_cpu import machine
from ptx_on_cpu.arrays import Arrays
from ptx_on_cpu.driver import PtxDriver
from ptx_on_cpu.machine import PtxFault
from ptx_on_cpu.small_kernel import HEAD, Arguments, launch

pytestmark = pytest.mark.skipif(machine.library() is None, reason="no g++ here")

AROUND = "setp.lt.s32 %p1, %r1, {}; @%p1 bra $end; {}\n$end:"
"""Something that the first threads do not do."""

FAULTS = [
    (
        "ld.global.b32 %r5, [%rd4+4]",
        r"global memory, read of 4 bytes .* thread 63 .*out of bounds, 4 bytes off",
    ),
    ("ld.global.b32 %r5, [%rd4+4]", r"the array of 256 bytes that is word 0 of the arguments"),
    ("st.global.b32 [%rd5-4], %r1", r"global memory, write .* thread 0 .*out of bounds, 4 bytes off .* word 1"),
    ("ld.global.b32 %r5, [%rd4+2]", r"misaligned, no multiple of 4"),
    ("ld.global.v2.b32 {%r5, %r6}, [%rd4]", r"misaligned, no multiple of 8"),
    ("st.global.b32 [%rd2], %r1", r"global memory, write .* a race with a write by thread \d+ of the same block"),
    ("ld.global.b32 %r5, [%rd2]; st.global.b32 [%rd5], %r5", r"a race with a (read|write) by"),
    ("atom.global.add.u32 %r5, [%rd2], 1; ld.global.b32 %r6, [%rd2]", r"a race with a (read|write) by thread"),
    (
        "st.shared.b32 [%r3], %r1; ld.shared.b32 %r5, [room+8]",
        r"shared memory, .*(a race with a|never)",
    ),
    ("ld.shared.b32 %r5, [%r3]", r"shared memory, read .* never written"),
    ("st.shared.b32 [%r3+4], %r1", r"shared memory, write .* thread 63 .* out of bounds"),
    ("ld.local.b32 %r5, [own+4]", r"local memory, read .* never written"),
    ("st.local.b32 [own+16], %r5", r"local memory, write .* out of bounds"),
    (AROUND.format(9, "bar.sync 0;"), r"a barrier of diverged lanes: 23 lanes of warp 0 of block 0"),
    (AROUND.format(32, "bar.sync 0;"), r"a barrier that warps of block 0 wait at while others have ended"),
    (
        AROUND.format(32, "bar.sync 0; bra $out;") + " bar.sync 0;\n$out:",
        r"warps of block 0 meet at different barriers",
    ),
    (AROUND.format(9, "mov.u32 %r7, -1; vote.sync.any.pred %p2, %p1, %r7;"), r"a vote of diverged lanes"),
    (AROUND.format(9, "mov.u32 %r7, -1; shfl.sync.bfly.b32 %r5|%p2, %r1, 1, 31, %r7;"), r"a shuffle of diverged lanes"),
    (
        "setp.eq.s32 %p1, %r1, 3; @%p1 ret; mov.u32 %r7, -1; vote.sync.ballot.b32 %r5, %p1, %r7",
        r"a vote of diverged lanes: the mask names lanes 0xffffffff",
    ),
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("body", "said"), FAULTS)
def test_faults_are_named_with_their_instruction(body, said, seed):
    a, b = torch.zeros(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    with pytest.raises(PtxFault, match=said) as caught:
        launch(f"    {body};", a, b, seed=seed)
    assert caught.value.entry == "kernel" and caught.value.at.text in body
    assert f"line {caught.value.at.line} of its PTX" in str(caught.value)


def test_a_barrier_orders_shared_and_global_memory():
    body = (
        "st.shared.b32 [%r3], %r1; st.global.b32 [%rd4], %r1; bar.sync 0; xor.b32 %r5, %r1, 63; shl.b32 %r6, %r5, 2;"
        "add.s32 %r7, %r2, %r6; ld.shared.b32 %r8, [%r7]; cvt.u64.u32 %rd6, %r6; add.s64 %rd6, %rd6, %rd1;"
        "ld.global.b32 %r9, [%rd6]; add.s32 %r9, %r9, %r8; bar.sync 0; st.shared.b32 [%r3], %r9;"
        "st.global.b32 [%rd5], %r9;"
    )
    a, b = torch.zeros(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    launch(body, a, b)
    assert b.tolist() == [2 * (63 - i) for i in range(64)]


@pytest.mark.parametrize(
    "body", ["st.global.b32 [%rd4], %r1;", "ld.global.b32 %r5, [%rd5]; st.global.b32 [%rd5], %r5;"]
)
def test_blocks_are_not_ordered(body):
    a, b = torch.zeros(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    launch(body, a, b)
    with pytest.raises(PtxFault, match=r"of another block|by other blocks"):
        launch(body, a, b, blocks=2)


def test_atomic_additions_of_all_blocks_are_no_race():
    a, b = torch.zeros(64, dtype=torch.int32), torch.zeros(64, dtype=torch.float32)
    launch("mov.f32 %f1, 0f3F800000; red.global.add.f32 [%rd2], %f1;", a, b, blocks=3)
    assert b[0] == 3 * 64


def test_memory_that_was_never_written_is_told_from_zeros():
    with Arrays().watched() as arrays:
        never, zeros, out = torch.empty(64), torch.zeros(64), torch.zeros(64)
        driver = PtxDriver(arrays)
        body = "ld.global.f32 %f1, [%rd4]; st.global.f32 [%rd5], %f1; ret; }"
        function = driver.function(driver.load(0, (HEAD + body).encode()), "kernel")
        driver.launch(0, function, 1, 64, 0, Arguments(zeros.data_ptr(), out.data_ptr()))
        with pytest.raises(PtxFault, match="never written"):
            driver.launch(0, function, 1, 64, 0, Arguments(never.data_ptr(), out.data_ptr()))
        never.copy_(zeros)
        driver.launch(0, function, 1, 64, 0, Arguments(never.data_ptr(), out.data_ptr()))
        assert torch.empty(3, dtype=torch.float64).isnan().all() and torch.empty_like(zeros).isnan().all()


def test_addresses_of_tensors_that_are_gone_are_refused():
    with Arrays().watched() as arrays:
        gone = torch.zeros(1000)
        packed = struct.pack("<QQ", gone.data_ptr(), 7)
        assert arrays.regions(packed) == [(gone.data_ptr(), 4000, 0)]
        del gone
        with pytest.raises(AssertionError, match=r"word 0 .* a tensor that was freed"):
            arrays.regions(packed)
