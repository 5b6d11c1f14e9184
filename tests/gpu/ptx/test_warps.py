"""Which lanes, warps and blocks of the machine run when, and what they exchange."""

import pytest
import torch
from ptx_on_cpu import machine
from ptx_on_cpu.assemble import Unknown
from ptx_on_cpu.small_kernel import launch, result

pytestmark = pytest.mark.skipif(machine.library() is None, reason="no g++ here")

LOOP = """
    ld.global.b32 %r5, [%rd4];
    mov.u32 %r6, 0;
    bra $check;
$again:
    add.s32 %r6, %r6, %r5;
    sub.s32 %r5, %r5, 1;
$check:
    setp.gt.s32 %p1, %r5, 0;
    @%p1 bra $again;
    st.global.b32 [%rd5], %r6;
"""


@pytest.mark.parametrize("seed", range(3))
def test_lanes_that_loop_longer_are_waited_for(seed):
    times = torch.randint(0, 9, (64,), dtype=torch.int32)
    out = torch.zeros(64, dtype=torch.int32)
    driver = launch(LOOP, times, out, seed=seed)
    assert out.tolist() == [n * (n + 1) // 2 for n in times.tolist()]
    assert driver.launches == {"kernel": 1}


def test_a_warp_executes_what_its_longest_lane_does():
    """And an instruction of a branch once for each path of it."""
    times, out = torch.zeros(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    without = launch(LOOP, times, out).counts()["kernel"]
    times[5], times[6], times[40] = 7, 2, 3
    assert launch(LOOP, times, out).counts()["kernel"] - without == (7 + 3) * 4


def test_blocks_warps_and_branches_run_in_an_order_that_the_seed_changes():
    body = """
        atom.global.add.u32 %r5, [%rd2], 1;
        mov.u32 %r6, %ctaid.x;
        setp.eq.s32 %p1, %r6, 1;
        @%p1 st.global.b32 [%rd4], %r5;
    """
    orders = set()
    for seed in range(4):
        a, b = torch.zeros(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
        launch(body, a, b, blocks=3, seed=seed)
        assert b[0] == 3 * 64
        orders.add(tuple(a.tolist()))
    assert len(orders) > 1


def test_votes_shuffles_and_counts_are_those_of_all_lanes():
    body = (
        "mov.u32 %r7, -1; and.b32 %r5, %r1, 5; setp.eq.s32 %p1, %r5, 5; vote.sync.ballot.b32 %r8, %p1, %r7;"
        "shfl.sync.bfly.b32 %r9|%p2, %r1, 3, 31, %r7; bar.red.popc.u32 %r10, 0, %p1; bar.red.popc.u32 %r11, 0, !%p1;"
        "add.s32 %r9, %r9, %r8; shl.b32 %r10, %r10, 8; add.s32 %r9, %r9, %r10; add.s32 %r9, %r9, %r11;"
        "st.global.b32 [%rd5], %r9;"
    )
    bits = sum(1 << i for i in range(32) if i & 5 == 5)
    expected = [bits + (i ^ 3) + (16 << 8) + 48 for i in range(64)]
    found = result(body, torch.zeros(64, dtype=torch.int32))
    assert [x % 2**32 for x in found.tolist()] == [x % 2**32 for x in expected]


def test_what_the_machine_does_not_have_is_refused_by_name():
    a = torch.zeros(64)
    with pytest.raises(Unknown, match=r"'tanh\.approx\.f32': line \d+: tanh\.approx\.f32 %f1, %f1"):
        launch("tanh.approx.f32 %f1, %f1;", a, a)
    with pytest.raises(Unknown, match="a register of b64"):
        launch("add.s32 %r5, %rd1, 1;", a, a)
    with pytest.raises(Unknown, match="a barrier of a part"):
        launch("bar.sync 1;", a, a)
