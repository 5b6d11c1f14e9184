"""Lets feed-forward splatting training code written for CUDA run on a CPU.

Python imports this file at start-up when its folder is on PYTHONPATH.  It does
nothing unless HOSTLAB=1.  Nothing of the training code is edited: each patch
waits for a library to be imported and then adjusts that library.

What is adjusted
    lightning Trainer   accelerator "cpu", one device, no plugins, no sanity
                        check; validation off unless HOSTLAB_VAL is set
    torchvision         the CUDA wheel imports on a CPU torch (two operator
                        schemas are declared; the operators are not provided)
    torch.hub.load      DINO / DINOv2 backbones become small random networks
    lpips.LPIPS         random VGG trunk when the weights are not in the cache
    torch.cuda          memory_stats() answers on a machine without CUDA
    src...croco_params  a smaller CroCo backbone (fewer layers, narrower decoder)
    NoPoSplat's heads   points start on a plane, not all at the camera
    TransPlat           Depth Anything with a stub for its backbone and random
                        weights; the map size 64 becomes a quarter of the image
    matplotlib.cm       get_cmap, which matplotlib 3.11 dropped
    numpy               trapz, which NumPy 2.4 dropped (SPFSplat's and EcoSplat's
                        `on_test_end` call it)

Environment
    HOSTLAB=1            switch everything on
    HOSTLAB_THREADS      torch threads (default 1: on a busy machine two threads
                         that wait for each other are many times slower)
    HOSTLAB_VAL          validation batches to run (default 0)
    HOSTLAB_TEST         test batches to run (default: all)
    HOSTLAB_STRATEGY     Lightning's strategy (default auto; ddp: one process, gloo)
    HOSTLAB_LOG          file that receives one JSON line per training step
    HOSTLAB_CROCO        "encoder layers,decoder layers,decoder width" of the CroCo
                         backbone (default 2,10,192; the DPT heads want ten or
                         more decoder layers; empty: leave it as it is)
    HOSTLAB_POINT_PRIOR  depth of that plane in baselines (default 8; 0: off)
    HOSTLAB_SIZE         side of the images (run_host.sh sets it; at 256 TransPlat's
                         map size stays as it is)
    HOSTLAB_REAL_LPIPS   set to keep LPIPS' own (downloading) behavior
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path


# --------------------------------------------------------------------------
# A chain to the sitecustomize that follows `file`'s folder on the path.
# --------------------------------------------------------------------------
def _chain(file=__file__) -> None:
    here = Path(file).resolve().parent
    folders = [Path(p or ".").resolve() for p in sys.path]
    if here not in folders:
        return
    rest = sys.path[folders.index(here) + 1 :]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


# --------------------------------------------------------------------------
# "Call this once that module has been imported."
# --------------------------------------------------------------------------
class _AfterImport:
    """A meta path finder that runs a callback after the named modules load."""

    def __init__(self, callbacks: dict) -> None:
        self.callbacks = dict(callbacks)
        self.busy: set[str] = set()

    def find_spec(self, name, path=None, target=None):
        if name not in self.callbacks or name in self.busy:
            return None
        self.busy.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy.discard(name)
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Loader(spec.loader, self.callbacks.pop(name))
        return spec


class _Loader:
    def __init__(self, inner, callback) -> None:
        self.inner, self.callback = inner, callback

    def create_module(self, spec):
        return self.inner.create_module(spec)

    def exec_module(self, module) -> None:
        module.__spec__.loader = self.inner
        module.__loader__ = self.inner
        self.inner.exec_module(module)
        self.callback(module)

    def __getattr__(self, name):
        return getattr(self.inner, name)


# --------------------------------------------------------------------------
# torch, torchvision
# --------------------------------------------------------------------------
def _patch_torch(torch) -> None:
    torch.set_num_threads(int(os.environ.get("HOSTLAB_THREADS", "1")))
    if not torch.cuda.is_available():
        torch.cuda.memory_stats = lambda *a, **k: {"allocated_bytes.all.peak": 0}
        torch.cuda.synchronize = lambda *a, **k: None
        # HiSplat makes its batch norms synchronous, which DDP refuses off GPUs; in one process they are the same.
        torch.nn.SyncBatchNorm.convert_sync_batchnorm = classmethod(lambda cls, module, group=None: module)
    real = torch.hub.load

    @functools.wraps(real)
    def load(repo, model, *args, **kwargs):
        stub = _hub_stub(str(repo), str(model))
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


def _patch_torchvision(_extension) -> None:
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


# --------------------------------------------------------------------------
# stand-ins for downloaded backbones
# --------------------------------------------------------------------------
def _hub_stub(repo: str, model: str):
    if "facebookresearch/dino" not in repo:
        return None
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if model.startswith("dino_resnet"):
            import torchvision

            net = getattr(torchvision.models, model.removeprefix("dino_"))()
            net.fc = torch.nn.Identity()
            return net
        width = {"s": 384, "b": 768, "l": 1024, "g": 1536}
        if model.startswith("dino_vit"):  # dino_vitb8, dino_vits16 ...
            kind = model.removeprefix("dino_vit")
            return _tiny_vit(width[kind[0]], int(kind[1:]), 12)
        if model.startswith("dinov2_vit"):  # dinov2_vits14 ...
            kind = model.removeprefix("dinov2_vit").split("_")[0]
            depth = {"s": 12, "b": 12, "l": 24, "g": 40}[kind[0]]
            return _tiny_vit(width[kind[0]], int(kind[1:]), depth)
    return None


def _tiny_vit(dim: int, patch: int, depth: int):
    """Same token shapes as the real network; `depth` nominal layers, one real one."""
    import torch
    from torch import nn

    class TinyViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_dim = self.num_features = dim
            self.patch_size = patch
            self.n_blocks = depth
            self.patch_embed = nn.Conv2d(3, dim, patch, patch)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
            self.mask_token = nn.Parameter(torch.zeros(1, dim))
            nn.init.normal_(self.cls_token, std=0.02)
            self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
            self.mix = nn.Linear(dim, dim)
            self.norm = nn.LayerNorm(dim)

        def _tokens(self, x):
            x = self.patch_embed(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1)
            x = x + self.mix(x.mean(1, keepdim=True))
            return x + self.mlp(x)

        def forward(self, x):
            return self.norm(self._tokens(x))[:, 0]

        def get_intermediate_layers(self, x, n=1, reshape=False, return_class_token=None, norm=True):
            # DINO returns class and patch tokens together; DINOv2 has the
            # `return_class_token` argument and keeps them apart.
            tokens = self._tokens(x)
            if norm:
                tokens = self.norm(tokens)
            count = n if isinstance(n, int) else len(n)
            if return_class_token is None and not reshape:
                return [tokens] * count
            cls, patches = tokens[:, 0], tokens[:, 1:]
            if reshape:
                rows, cols = x.shape[-2] // patch, x.shape[-1] // patch
                patches = patches.transpose(1, 2).reshape(len(x), dim, rows, cols)
            one = (patches, cls) if return_class_token else patches
            return tuple([one] * count)

    return TinyViT()


def _patch_lpips(networks) -> None:
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


def _patch_torchvision_io(module) -> None:
    if not hasattr(module, "write_video"):  # gone from torchvision; VicaSplat imports it and calls it for videos alone
        module.write_video = None


def _patch_gsplat(gsplat) -> None:
    import torch

    if torch.cuda.is_available():
        return
    import gsplat.cuda._wrapper as wrapper
    import gsplat.rendering as rendering
    import hostlab_gsplat as ours

    gsplat.rasterization = rendering.rasterization = ours.rasterization
    gsplat.quat_scale_to_covar_preci = wrapper.quat_scale_to_covar_preci = ours.quat_scale_to_covar_preci


def _patch_numpy(numpy) -> None:
    if not hasattr(numpy, "trapz"):
        numpy.trapz = numpy.trapezoid


def _patch_cm(cm) -> None:
    if hasattr(cm, "get_cmap"):
        return

    def get_cmap(name=None, lut=None):
        import matplotlib

        if isinstance(name, matplotlib.colors.Colormap):
            return name
        cmap = matplotlib.colormaps[name or matplotlib.rcParams["image.cmap"]]
        return cmap if lut is None else cmap.resampled(lut)

    cm.get_cmap = get_cmap


# --------------------------------------------------------------------------
# lightning
# --------------------------------------------------------------------------
def _step_log(base):
    import json
    from time import perf_counter, process_time

    path = os.environ["HOSTLAB_LOG"]

    class StepLog(base):
        """One JSON line per training step: step, loss, gradient norm, seconds by the clock and of the processor."""

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            self.start, self.worked = perf_counter(), process_time()

        def on_before_optimizer_step(self, trainer, module, optimizer):
            total = 0.0
            for p in module.parameters():
                if p.grad is not None:
                    total += float(p.grad.detach().double().pow(2).sum())
            self.grad = total**0.5

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            record = {
                "step": trainer.global_step,
                "loss": None if loss is None else float(loss),
                "grad_norm": getattr(self, "grad", None),
                "seconds": round(perf_counter() - self.start, 3),
                "cpu_seconds": round(process_time() - self.worked, 3),
            }
            with open(path, "a") as f:
                f.write(json.dumps(record) + "\n")

    return StepLog()


def _shrink_croco() -> None:
    wish = os.environ.get("HOSTLAB_CROCO", "2,10,192")
    if not wish:
        return
    enc, dec, width = (int(x) for x in wish.split(","))
    small = dict(enc_depth=enc, dec_depth=dec, dec_embed_dim=width, dec_num_heads=width // 64)
    for name, module in list(sys.modules.items()):
        table = getattr(module, "croco_params", None) if module is not None else None
        if name.startswith("src.") and isinstance(table, dict):
            for entry in table.values():
                entry.update(small)


def _shrink_transplat() -> None:
    predictor = sys.modules.get("src.model.encoder.matching.depth_predictor_trans")
    anything = sys.modules.get("src.depth_anything_v2.dpt")
    if predictor is None or anything is None:
        return
    anything.DINOv2 = lambda model_name: _tiny_vit(768, 14, 12)
    model = anything.DepthAnythingV2
    real = model.load_state_dict

    def load_state_dict(self, state, *args, **kwargs):
        if state:
            return real(self, state, *args, **kwargs)
        # No file (see _patch_torch).  The depth is rescaled by its own range, so
        # it must not be cut to zero everywhere by the last ReLU.
        self.depth_head.scratch.output_conv2[2].bias.data.fill_(1.0)

    model.load_state_dict = load_state_dict
    side = int(os.environ.get("HOSTLAB_SIZE", "256")) // 4
    if side != 64:
        new = {64: side, (64, 64): (side, side)}
        for name in ("match_two", "forward"):
            function = getattr(predictor.DepthPredictorTrans, name)
            code = function.__code__
            constants = tuple(new.get(c, c) if isinstance(c, (int, tuple)) else c for c in code.co_consts)
            if constants == code.co_consts:
                raise RuntimeError(f"hostlab: no map size 64 in TransPlat's {name}")
            function.__code__ = code.replace(co_consts=constants)


def _setup(base):
    class Setup(base):
        """What has to wait for the model: size report, NoPoSplat's point prior, buffers that gloo can write to."""

        def setup(self, trainer, module, stage):
            count = sum(p.numel() for p in module.parameters() if p.requires_grad)
            print(f"hostlab: {count / 1e6:.2f} M trainable parameters")
            depth = float(os.environ.get("HOSTLAB_POINT_PRIOR", "8"))
            for name in ("downstream_head1", "downstream_head2"):
                head = getattr(getattr(module, "encoder", None), name, None)
                if head is not None and depth > 0:
                    head.register_forward_hook(_point_prior(depth))
            # DDP on a CPU broadcasts in place and stops at pixelSplat's `phases`, which are an expanded scalar
            for part in module.modules():
                for name, buffer in part._buffers.items():
                    if buffer is not None and 0 in buffer.stride():
                        part._buffers[name] = buffer.contiguous()

    return Setup()


def _point_prior(depth: float):
    """Untrained point heads put every point at the origin, where nothing is seen
    and no gradient flows; pretrained ones do not.  Start from a plane instead."""

    def hook(_module, _inputs, out):
        import torch

        points = out["pts3d"]
        _, h, w, _ = points.shape
        v, u = torch.meshgrid(
            (torch.arange(h) + 0.5) / h - 0.5,
            (torch.arange(w) + 0.5) / w - 0.5,
            indexing="ij",
        )
        plane = torch.stack([u, v, torch.ones_like(u)], -1) * depth
        return {**out, "pts3d": points + plane.to(points)}

    return hook


# Called when the Trainer is built: everything is imported then, and in all hosts
# the model comes after it.  A further sitecustomize.py on the path may append to
# `sys.modules["sitecustomize"].BEFORE_MODEL` and call that module's _chain(__file__).
BEFORE_MODEL = [_shrink_croco, _shrink_transplat]


def _patch_trainer(module) -> None:
    real = module.Trainer.__init__

    @functools.wraps(real)
    def init(self, *args, **kwargs):
        strategy = os.environ.get("HOSTLAB_STRATEGY", "auto")
        kwargs.update(accelerator="cpu", devices=1, strategy=strategy, num_nodes=1)
        kwargs.pop("plugins", None)
        kwargs["num_sanity_val_steps"] = 0
        kwargs["limit_val_batches"] = int(os.environ.get("HOSTLAB_VAL", "0"))
        kwargs.setdefault("enable_model_summary", False)
        if os.environ.get("HOSTLAB_TEST"):
            kwargs["limit_test_batches"] = int(os.environ["HOSTLAB_TEST"])
        package = module.__name__.rsplit(".", 2)[0]  # lightning.pytorch or pytorch_lightning
        base = importlib.import_module(package + ".callbacks").Callback
        extra = [_setup(base)]
        if os.environ.get("HOSTLAB_LOG"):
            extra.append(_step_log(base))
        kwargs["callbacks"] = list(kwargs.get("callbacks") or []) + extra
        for change in BEFORE_MODEL:
            change()
        return real(self, *args, **kwargs)

    module.Trainer.__init__ = init


_chain()
if os.environ.get("HOSTLAB") == "1":
    sys.meta_path.insert(
        0,
        _AfterImport(
            {
                "torch": _patch_torch,
                "torchvision.extension": _patch_torchvision,
                "lpips.pretrained_networks": _patch_lpips,
                "matplotlib.cm": _patch_cm,
                "numpy": _patch_numpy,
                "gsplat": _patch_gsplat,
                "torchvision.io": _patch_torchvision_io,
                "lightning.pytorch.trainer.trainer": _patch_trainer,
                "pytorch_lightning.trainer.trainer": _patch_trainer,
            }
        ),
    )
