"""Lightning's trainer on one CPU, with a log of the steps."""

from __future__ import annotations

import functools
import importlib
import json
import os
from time import perf_counter, process_time

from hostlab_patches.backbones import point_prior, shrink_croco, shrink_transplat
from hostlab_patches.resplat import patch_resplat
from hostlab_patches.vggt import shrink_c3g, shrink_vggt
from hostlab_patches.yonosplat import shrink_yonosplat

# Called when the Trainer is built: everything is imported then, and in all hosts
# the model comes after it.  A further sitecustomize.py on the path may append to
# `sys.modules["sitecustomize"].BEFORE_MODEL` and call that module's _chain(__file__).
BEFORE_MODEL = [shrink_croco, shrink_transplat, shrink_vggt, shrink_c3g, shrink_yonosplat, patch_resplat]


def patch_trainer(module) -> None:
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
                    head.register_forward_hook(point_prior(depth))
            # DDP on a CPU broadcasts in place and stops at pixelSplat's `phases`, which are an expanded scalar
            for part in module.modules():
                for name, buffer in part._buffers.items():
                    if buffer is not None and 0 in buffer.stride():
                        part._buffers[name] = buffer.contiguous()

    return Setup()


def _step_log(base):
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
