"""Lets feed-forward splatting training code written for CUDA run on a CPU.

Python imports this file at start-up when its folder is on PYTHONPATH.  It does
nothing unless HOSTLAB=1.  Nothing of the training code is edited: each patch
waits for a library to be imported and then adjusts that library.  The patches are
in `hostlab_patches`, one job a module.

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

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path


def _chain(file=__file__) -> None:
    """Run the sitecustomize that follows this file's folder on the path."""
    here = Path(file).resolve().parent
    folders = [Path(p or ".").resolve() for p in sys.path]
    if here not in folders:
        return
    rest = sys.path[folders.index(here) + 1 :]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


if os.environ.get("HOSTLAB") == "1":
    from hostlab_patches import libraries, trainer
    from hostlab_patches.after_import import AfterImport

    BEFORE_MODEL = trainer.BEFORE_MODEL
    _chain()
    sys.meta_path.insert(
        0,
        AfterImport(
            {
                "torch": libraries.patch_torch,
                "torchvision.extension": libraries.patch_torchvision,
                "lpips.pretrained_networks": libraries.patch_lpips,
                "matplotlib.cm": libraries.patch_cm,
                "numpy": libraries.patch_numpy,
                "gsplat": libraries.patch_gsplat,
                "torchvision.io": libraries.patch_torchvision_io,
                "lightning.pytorch.trainer.trainer": trainer.patch_trainer,
                "pytorch_lightning.trainer.trainer": trainer.patch_trainer,
            }
        ),
    )
else:
    _chain()
