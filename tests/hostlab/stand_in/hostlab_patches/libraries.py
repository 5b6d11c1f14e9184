"""Libraries on a machine without CUDA, and names that newer versions of them have dropped."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from hostlab_patches.backbones import hub_stub


def patch_torch(torch) -> None:
    torch.set_num_threads(int(os.environ.get("HOSTLAB_THREADS", "1")))
    if not torch.cuda.is_available():
        torch.cuda.memory_stats = lambda *a, **k: {"allocated_bytes.all.peak": 0}
        torch.cuda.synchronize = lambda *a, **k: None
        # HiSplat makes its batch norms synchronous, which DDP refuses off GPUs; in one process they are the same.
        torch.nn.SyncBatchNorm.convert_sync_batchnorm = classmethod(lambda cls, module, group=None: module)
    real = torch.hub.load

    @functools.wraps(real)
    def load(repo, model, *args, **kwargs):
        stub = hub_stub(str(repo), str(model))
        return real(repo, model, *args, **kwargs) if stub is None else stub

    torch.hub.load = load
    real_load = torch.load

    @functools.wraps(real_load)
    def load_file(f, *args, **kwargs):
        # TransPlat reads this file in every mode, and has no switch for it.
        if str(f).endswith("depth_anything_v2_vitb.pth") and not Path(f).exists():
            return {}
        return real_load(f, *args, **kwargs)

    torch.load = load_file


_LIBRARIES = []  # keep the declarations alive


def patch_torchvision(_extension) -> None:
    import torch

    wanted = {
        "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    }
    for name, schema in wanted.items():
        try:
            getattr(torch.ops.torchvision, name)
        except AttributeError:
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(schema)
            _LIBRARIES.append(library)


def patch_lpips(networks) -> None:
    """`networks` is lpips.pretrained_networks; only its trunks are touched."""
    if not os.environ.get("HOSTLAB_REAL_LPIPS"):
        for trunk, file in ((networks.vgg16, "vgg16-*.pth"), (networks.alexnet, "alexnet-*.pth")):
            trunk.__init__ = _without_weights(trunk.__init__, file)


def _without_weights(real, file: str):
    import torch

    @functools.wraps(real)
    def init(self, *args, **kwargs):
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        if list(folder.glob(file)):
            return real(self, *args, **kwargs)
        kwargs["pretrained"] = False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return real(self, **kwargs)

    return init


def patch_torchvision_io(module) -> None:
    if not hasattr(module, "write_video"):  # gone from torchvision; VicaSplat imports it and calls it for videos alone
        module.write_video = None


def patch_gsplat(gsplat) -> None:
    import torch

    if torch.cuda.is_available():
        return
    import gsplat.cuda._wrapper as wrapper
    import gsplat.rendering as rendering
    import hostlab_gsplat as ours

    gsplat.rasterization = rendering.rasterization = ours.rasterization
    gsplat.quat_scale_to_covar_preci = wrapper.quat_scale_to_covar_preci = ours.quat_scale_to_covar_preci


def patch_numpy(numpy) -> None:
    if not hasattr(numpy, "trapz"):
        numpy.trapz = numpy.trapezoid


def patch_cm(cm) -> None:
    if hasattr(cm, "get_cmap"):
        return

    def get_cmap(name=None, lut=None):
        import matplotlib

        if isinstance(name, matplotlib.colors.Colormap):
            return name
        cmap = matplotlib.colormaps[name or matplotlib.rcParams["image.cmap"]]
        return cmap if lut is None else cmap.resampled(lut)

    cm.get_cmap = get_cmap
