"""``diff3r doctor``: what the plugin would do here, and whether a checkout is what its adapter was written for."""

from __future__ import annotations

import argparse
import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from diff3r_startup.installation import installed

PACKAGES = ("torch", "gsplat", "lightning", "pytorch-lightning", "hydra-core", "jaxtyping", "beartype", "dacite")

PROCESS_CHANGES = {
    "hydra.main": "the command line is put in order, and the plugin begins with the main function",
    "lightning.Trainer.fit, .validate, .test, .predict": "a model that never met the plugin is refused",
    "LightningModule.__init_subclass__": "a host without Hydra begins once its LightningModule is defined",
    "torch.nn.Module.__init_subclass__": "a host without Hydra and Lightning begins once its model is defined",
    "sys.meta_path": "Hydra, Lightning and PyTorch are changed as above once they have been imported",
    "sys.excepthook": "a program that fails because its rasterizer is missing names the mistake in its command line",
    "sys.path": "the drop-in rasterizer's folder, behind an installed one (diff3r.rasterizer)",
}
"""What ``diff3r_startup`` changes in a program that was started with the flag, and why."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this environment and a host's checkout",
        description="Says what is installed, which host a checkout is, what would be patched in it, and what in it "
        "differs from what the adapter relies on. Reads source files only; imports nothing of the host.",
    )
    parser.add_argument(
        "checkout", nargs="?", type=Path, help="the host's folder, the one its repository was cloned to"
    )
    parser.add_argument("--adapter", default="auto", help="adapter to check against instead of the recognized one")
    parser.add_argument(
        "--gpu",
        action="store_true",
        help="run the GPUs' self-test again, of every kernel, and print its deviation from the reference and its time",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; status 1 when something would stop the plugin."""
    healthy = environment()
    if arguments.gpu:
        from diff3r_plugin.cli import _doctor_gpu

        healthy = _doctor_gpu.tested_again() and healthy
    if arguments.checkout is not None:
        healthy = checkout(arguments.checkout, arguments.adapter) and healthy
    return 0 if healthy else 1


def environment() -> bool:
    """Report on this Python environment."""
    from diff3r_plugin import __version__
    from diff3r_plugin.cli import _doctor_gpu
    from diff3r_plugin.plugin.host import registry
    from diff3r_plugin.render import available_backends

    print(f"diff3r-plugin {__version__}, Python {platform.python_version()} on {platform.system()}")
    for name in PACKAGES:
        try:
            print(f"  {name} {version(name)}")
        except PackageNotFoundError:
            print(f"  {name}: not installed")
    found = installed()
    print(f"start-up hook: {found[0] if found else 'not installed; use `diff3r run -- COMMAND`'}")
    import torch

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    print("render backends: " + "; ".join(f"{d}: {', '.join(available_backends(d))}" for d in devices))
    _doctor_gpu.report()
    own = importlib.util.find_spec("diff_gaussian_rasterization")
    print(f"rasterizer: {'installed at ' + str(own.origin) if own else 'none installed; hosts get the drop-in'}")
    print(f"adapters: {', '.join(registry.adapters()) or 'none'}")
    for name, error in registry.FAILED.items():
        print(f"  PROBLEM: the plugin {name!r} could not be loaded: {error!r}")
    return not registry.FAILED


def checkout(folder: Path, name: str) -> bool:
    """Report on a host's checkout."""
    from diff3r_plugin.plugin.attaching.loop_patches import WATCHED
    from diff3r_plugin.plugin.attaching.wrapper_patches import CHANGES
    from diff3r_plugin.plugin.host import registry

    adapter, found = registry.choose(name, folder)
    print(f"\ncheckout {found.root}: {adapter.name} ({adapter.repository})")
    if found.commit is None:
        print("  commit unknown (no .git folder)")
    elif adapter.verified(found):
        print(f"  commit {found.commit[:12]}: the adapter was verified against it")
    else:
        verified = ", ".join(adapter.verified_commits) or "none"
        print(f"  commit {found.commit[:12]}: not one the adapter was verified against ({verified})")
    absent = [file for file in adapter.fingerprints if not found.has(file)]
    if absent:
        print(
            f"  would not be recognized as {adapter.name}, since it has no {', '.join(absent)}; "
            f"diff3r.adapter={adapter.name} forces it"
        )
    problems = adapter.problems(found)
    for problem in problems:
        print(f"  PROBLEM: {problem}")
    print(f"  {len(adapter.expectations) - len(problems)} of {len(adapter.expectations)} expectations hold")
    if problems:
        print(
            f"  a run with the flag ends at its start, with these lines. A relative of {adapter.name} needs an adapter "
            "of its own, which may derive from that one: diff3r adapters new NAME"
        )
        return False
    print(f"  would be patched in {adapter.wrapper}:")
    changes = {name: change.why for name, change in CHANGES.items()} if adapter.lightning else WATCHED
    for method, why in changes.items():
        print(f"    {method}: {why}")
    noted = ", data_shim (notes the batch)" if adapter.lightning else ""
    print(
        f"  and on the instance: {_refined(adapter)}{noted}, load_state_dict (the head), "
        "named_parameters (leaves the head out)"
    )
    print("  and on the host's optimizer: zero_grad (the head's gradients, too), a hook after step (the head's step)")
    for change, why in PROCESS_CHANGES.items():
        print(f"  and in the process: {change}: {why}")
    for path in adapter.unrefined:
        print(f"    {path}: encoder calls inside are left alone (diff3r.refine_extra=true refines them, too)")
    if not adapter.encoder_sees_poses:
        print("  its encoder does not see the context poses: diff3r.context_poses says which ones refine its scenes")
    if _overridden(adapter, "tap_of"):
        print("  the head reads features from where the encoder's configuration has them")
    elif adapter.tap is None:
        print("  the head sees images, residuals and initial Gaussians; no feature map is tapped")
    else:
        print(f"  the head reads the {adapter.tap.side} of encoder.{', encoder.'.join(adapter.tap.modules)}")
    return True


def _refined(adapter: Any) -> str:
    """The method whose calls are refined, as far as it can be told without the host's configuration."""
    other = ", or another method where the encoder's configuration decides so"
    return f"encoder.{adapter.refined.name} (refines{other if _overridden(adapter, 'refined_of') else ''})"


def _overridden(adapter: Any, method: str) -> bool:
    from diff3r_plugin.plugin import HostAdapter

    return getattr(type(adapter), method) is not getattr(HostAdapter, method)
