"""The description that launches go by is what compilers made of the sources."""

import re
from ctypes import Structure, c_void_p, sizeof

import pytest

from diff3r_plugin.kernels.loading import modules_cuda
from diff3r_plugin.kernels.loading.kernel_table import BASES, KERNELS, DeviceScene, Systems, units
from diff3r_plugin.kernels.loading.structures import Inputs

ENTRY = re.compile(r"\.visible \.entry (\w+)\((.*?)\)\s*\.maxntid (\d+)", re.DOTALL)
PARAMETER = re.compile(r"\.param (?:\.align \d+ )?\.(\w+)(?: \.ptr(?: \.\w+)? \.align \d+)? \w+(?:\[(\d+)\])?")


def entries(ptx: str) -> dict[str, tuple[list[int], int]]:
    """Sizes of parameters and threads a block of every entry point."""
    found = {}
    for name, parameters, threads in ENTRY.findall(ptx):
        sizes = [int(array or int(kind[1:]) // 8) for kind, array in PARAMETER.findall(parameters)]
        found[name] = sizes, int(threads)
    return found


def test_every_entry_point_has_the_parameters_and_threads_of_the_table(tmp_path):
    available, reasons = modules_cuda.compilers()
    if not available:
        pytest.skip(f"no CUDA compiler here: {reasons}")
    compiled = {}
    for source in modules_cuda.sources():
        bases = 4 if source.stem in units(of_bases=True) else 0
        available[0].compile(source, bases, "compute_80", tmp_path / source.stem)
        ptx = (tmp_path / source.stem).read_bytes().rstrip(b"\0").decode()
        compiled.update((name, (source.stem, *entry)) for name, entry in entries(ptx).items())
    described = {k.entry: (k.unit, [sizeof(p) for p in k.parameters], k.threads) for k in KERNELS.values()}
    assert compiled == described


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_arguments_have_no_gaps(kernel):
    """They are copied in a row, which compilers pad unless all of them are words of eight bytes."""
    assert [sizeof(p) % 8 for p in kernel.parameters] == [0] * len(kernel.parameters)
    assert all(p is c_void_p or issubclass(p, Structure) or sizeof(p) == 8 for p in kernel.parameters)
    assert kernel.threads % 32 == 0


def test_units_are_compiled_for_all_bases_or_for_none():
    assert not set(units(of_bases=True)) & set(units(of_bases=False))
    assert {source.stem for source in modules_cuda.sources()} == {k.unit for k in KERNELS.values()}
    assert BASES == tuple((degree + 1) ** 2 for degree in range(5))


def test_blocks_cover_everything_and_are_none_for_nothing():
    inputs = Inputs(batch=2, views=3, gaussians=130, bases=4, height=17, width=33)
    scene = DeviceScene(inputs)
    expected = {
        "project": -(-2 * 3 * 130 // 128),
        "rasterize": 2 * 3 * 2 * 3,
        "chart_splat_vjp": 2 * 3,
        "splat_gram": -(-2 * 130 // 32),
        "chart_decode": -(-2 * 130 // 128),
        "chart_decode_harmonics": -(-2 * 130 * 12 // 128),
    }
    for name, blocks in expected.items():
        first = scene if KERNELS[name].parameters[0] is DeviceScene else inputs
        assert KERNELS[name].blocks(first) == blocks, name
    assert KERNELS["products"].blocks(Systems(3, 1025)) == 3 * 2
    assert KERNELS["rasterize"].blocks(DeviceScene(Inputs(batch=1, views=1, gaussians=5))) == 0
