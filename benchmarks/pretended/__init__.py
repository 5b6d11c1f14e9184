"""CUDA devices that are none: the package's GPU branches on tensors that say they are on cuda:0 or cuda:1.

The tensors are computed on the CPU, our kernels by fibers (``tests/kernels/cuda_on_host.h``). Counted is what needs no
device: operations, launches of kernels, allocations, waits of the host for a device. What a device would refuse is
noted: tensors of two devices in one operation, and waits where none is allowed.
"""

from benchmarks.pretended.cuda import pretended_devices
from benchmarks.pretended.ledger import Counts, ForbiddenWait, Ledger
from benchmarks.pretended.tensors import Pretended

__all__ = ["Counts", "ForbiddenWait", "Ledger", "Pretended", "pretended_devices"]
