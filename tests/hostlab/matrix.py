"""Runs real hosts with and without the plugin, on a CPU and in tiny configurations, and prints what held.

    python tests/hostlab/matrix.py HOSTS [--only mvsplat ...] [--out DIR] [--python INTERPRETER]

HOSTS is a folder with checkouts; those that an adapter recognizes are run, unedited, through ``run_host.sh``. The
interpreter needs the packages of ``requirements.txt`` (see README.md) and this package. One host takes a quarter of
an hour on one core. Writes ``matrix.json`` and ``matrix.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from logged_images import logged_images

from diff3r_plugin.plugin import PluginError
from diff3r_plugin.plugin.host import registry

HERE = Path(__file__).resolve().parent
FLAG = ("--plugin", "diff3r")
STEPS = 2
# timing: runs, and steps in each without and then with refinement
REPETITIONS = 3
TIMED_STEPS = 3
# how a host takes weights alone, as for fine-tuning; the others can only resume
FINE_TUNING = {
    "mvsplat": ("checkpointing.load='{}'", "checkpointing.resume=false"),
    "noposplat": ("model.encoder.pretrained_weights='{}'",),
    "spfsplat": ("checkpointing.load='{}'", "checkpointing.resume=false"),
    "depthsplat": ("checkpointing.pretrained_model='{}'",),
    "zpressor_mvsplat": ("checkpointing.load='{}'", "checkpointing.resume=false"),
    "zpressor_depthsplat": ("checkpointing.pretrained_model='{}'",),
}
# the peculiarities that the tiny configurations leave out, each trained with a batch of two and tested
VARIANTS = {
    "pixelsplat": ("model.encoder.gaussians_per_pixel=3",),
    "depthsplat": (
        "model.encoder.num_scales=2", "model.encoder.upsample_factor=2", "model.encoder.depth_unet_channels=64",
    ),
}  # fmt: skip
TEST_VARIANTS = {"noposplat": ("test.align_pose=true", "test.pose_align_steps=5")}
# saves no optimizer state unless told to, and Lightning resumes nothing without it
RESUMABLE = dict.fromkeys(("noposplat", "spfsplat", "vicasplat"), ("checkpointing.save_weights_only=false",))
# have unused parameters of their own and ask DDP to look for them; with the others every parameter must be used
FINDS_UNUSED = {
    "pixelsplat", "noposplat", "spfsplat", "vicasplat",
    "zpressor_mvsplat", "zpressor_depthsplat", "zpressor_pixelsplat",
}  # fmt: skip
# validates at this size alone, which is written into its code
VALIDATION_SIZE = {"hisplat": "256"}


@dataclass
class HostRun:
    """One host: its checkout, where its runs go, and what was found."""

    name: str
    checkout: Path
    out: Path
    data: Path
    python: str
    checks: tuple[str, ...] = ("",)
    save: Callable[[], None] = lambda: None
    results: dict[str, Any] = field(default_factory=dict)

    def run(self, tag: str, mode: str, *arguments: str, **environment: str) -> Path:
        """Run the host's main; returns its folder. Raises RuntimeError with the end of its output."""
        settings = {
            "HOSTLAB_DATA": self.data,
            "HOSTLAB_OUT": self.out,
            "PYTHON": self.python,
            "HOSTLAB_TAG": tag,
            "HOSTLAB_MODE": mode,
            "HOSTLAB_STEPS": str(STEPS),
            "HOSTLAB_LPIPS": "0",
            **environment,
        }
        folder = self.out / self.name / tag
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"{mode}.log"
        command = ["bash", HERE / "run_host.sh", self.name, self.checkout, *arguments]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [str(part) for part in command],
                env={**os.environ, **{key: str(value) for key, value in settings.items()}},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        (folder / f"{mode}.peak_mib").write_text(str(usage.ru_maxrss // 1024))
        if process.returncode:
            raise RuntimeError(f"{log}\n{log.read_text(errors='replace')[-2500:]}")
        return folder

    def check(self, title: str, action: Callable[[], Any]) -> None:
        """Record what an action returns, or the first line of its failure; checks not asked for keep their result."""
        if not any(part in title for part in self.checks):
            return
        started = time.monotonic()
        try:
            outcome = action()
            self.results[title] = "yes" if outcome is None else outcome
        except Exception as error:
            self.results[title] = f"NO: {str(error).splitlines()[0] if str(error) else repr(error)}"
            print(error, file=sys.stderr)
        print(f"{self.name}: {title}: {self.results[title]} ({time.monotonic() - started:.0f} s)", flush=True)
        self.save()

    def checkpoint(self, tag: str) -> Path:
        """The newest checkpoint of a run."""
        found = sorted((self.out / self.name / tag).rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise RuntimeError(f"run {tag!r} left no checkpoint")
        return found[-1]

    def steps(self, tag: str) -> list[dict[str, float]]:
        """What the harness logged of each training step."""
        lines = (self.out / self.name / tag / "steps.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def examine(host: HostRun) -> None:
    """All checks for one host, in an order in which later ones use what earlier ones wrote."""

    def trained(tag: str, *arguments: str, **environment: str) -> None:
        host.run(tag, "train", *RESUMABLE.get(host.name, ()), *arguments, **environment)

    def compared() -> str:
        """Processor seconds of a step without and with refinement, medians over steps and runs that take turns.

        Not seconds by the clock: others may be using the machine. A step before ``warm_up_steps`` is the host's own.
        """
        pairs = []
        for repetition in range(REPETITIONS):
            tag, steps = f"timed_{repetition}", 2 * TIMED_STEPS
            trained(tag, *FLAG, f"diff3r.warm_up_steps={TIMED_STEPS}", HOSTLAB_STEPS=str(steps))
            seconds = [step["cpu_seconds"] for step in host.steps(tag)]
            pairs.append([median(seconds[1:TIMED_STEPS]), median(seconds[TIMED_STEPS + 1 :])])  # first ones prepare
            for checkpoint in (host.out / host.name / tag).rglob("*.ckpt"):
                checkpoint.unlink()  # a gigabyte each with some hosts
        host.results["timed"] = pairs
        plain, refined = (median(pair[side] for pair in pairs) for side in (0, 1))
        return f"{plain:.2f}, {refined:.2f} s (x {median(with_it / without for without, with_it in pairs):.1f})"

    def peaks() -> str:
        files = [host.out / host.name / tag / "train.peak_mib" for tag in ("plain", "plugin")]
        return ", ".join(file.read_text() for file in files) + " MiB"

    def validated() -> str:
        size = {"HOSTLAB_SIZE": VALIDATION_SIZE[host.name]} if host.name in VALIDATION_SIZE else {}
        folder = host.run("val", "train", *FLAG, HOSTLAB_VAL="1", **size)
        return f"{logged_images(folder)} images"

    def same_form() -> None:
        plain, plugged = (torch.load(host.checkpoint(t), weights_only=False) for t in ("plain", "plugin"))
        if list(plain["state_dict"]) != list(plugged["state_dict"]):
            raise RuntimeError("state dicts have different keys")
        states = [checkpoint.get("optimizer_states", []) for checkpoint in (plain, plugged)]
        sizes = [[len(group["params"]) for state in s for group in state["param_groups"]] for s in states]
        if sizes[0] != sizes[1] or not plugged["diff3r"]["head"]:
            raise RuntimeError(f"optimizer groups differ: {sizes}")

    def unchanged() -> None:
        trained("nothing", *FLAG, "diff3r.refine=[]")
        losses = [[(step["loss"], step["grad_norm"]) for step in host.steps(t)] for t in ("plain", "nothing")]
        if losses[0] != losses[1]:
            raise RuntimeError(f"losses and gradient norms differ: {losses}")
        plain, other = (torch.load(host.checkpoint(t), weights_only=False)["state_dict"] for t in ("plain", "nothing"))
        different = [name for name, value in plain.items() if not torch.equal(value, other[name])]
        if different:
            raise RuntimeError(f"{len(different)} of {len(plain)} tensors differ, the first is {different[0]}")

    def varied() -> str:
        trained("variant", *FLAG, *VARIANTS.get(host.name, ()), HOSTLAB_BATCH="2")
        return scores("variant", "variant", *VARIANTS.get(host.name, ()), *TEST_VARIANTS.get(host.name, ()))

    def scores(tag: str, checkpoint: str, *arguments: str) -> str:
        folder = host.run(tag, "test", *FLAG, *arguments, HOSTLAB_CKPT=str(host.checkpoint(checkpoint)))
        (path,) = folder.rglob("diff3r_scores.json")
        found = json.loads(path.read_text())
        host.results.setdefault("scores", {})[tag] = found["mean"]
        agreement = min(scene["renderer_agreement_psnr"] for scene in found["scenes"])
        psnr = found["mean"]["psnr"]
        return (
            f"PSNR {psnr['before']['mean']:.2f} to {psnr['after']['mean']:.2f}, head from checkpoint: "
            f"{found['head_from_checkpoint']}, agreement with the host's rendering {agreement:.0f} dB"
        )

    def resumed(tag: str, checkpoint: str, *arguments: str) -> None:
        trained(tag, f"checkpointing.load='{host.checkpoint(checkpoint)}'", *arguments, HOSTLAB_STEPS=str(STEPS + 1))
        taken = [step["step"] for step in host.steps(tag)]
        if taken != [STEPS + 1]:
            raise RuntimeError(f"took the steps {taken}, not {[STEPS + 1]}: it did not resume")

    def fine_tuned(tag: str, checkpoint: str, *arguments: str) -> str | None:
        if host.name not in FINE_TUNING:
            return "the host has no such command"
        trained(tag, *(a.format(host.checkpoint(checkpoint)) for a in FINE_TUNING[host.name]), *arguments)
        return None

    host.check("trains without the plugin", lambda: trained("plain"))
    host.check("trains with the plugin", lambda: trained("plugin", *FLAG))
    host.check("its part of the checkpoint has the host's form", same_form)
    host.check("is bit-identical where nothing is refined", unchanged)
    host.check("validates with the plugin", validated)
    host.check("trains and tests its variant, two scenes a batch", varied)
    host.check("tests its checkpoint with the plugin", lambda: scores("test_plugin", "plugin"))
    host.check("tests a plain checkpoint with the plugin", lambda: scores("test_plain", "plain"))
    host.check(
        "tests with the drop-in rasterizer", lambda: scores("test_drop_in", "plugin", "diff3r.rasterizer=drop_in")
    )
    host.check(
        "tests a plugin checkpoint without the plugin",
        lambda: host.run("test_without", "test", HOSTLAB_CKPT=str(host.checkpoint("plugin"))) and None,
    )
    host.check("resumes a plain checkpoint with the plugin", lambda: resumed("resume_with", "plain", *FLAG))
    host.check("resumes a plugin checkpoint without it", lambda: resumed("resume_without", "plugin"))
    host.check("fine-tunes a plain checkpoint with the plugin", lambda: fine_tuned("tune_with", "plain", *FLAG))
    host.check("fine-tunes a plugin checkpoint without it", lambda: fine_tuned("tune_without", "plugin"))
    strategy = "ddp_find_unused_parameters_true" if host.name in FINDS_UNUSED else "ddp"
    host.check("trains under DDP (one process, gloo)", lambda: trained("ddp", *FLAG, HOSTLAB_STRATEGY=strategy))
    host.check("peak memory of training, without and with the plugin", peaks)
    host.check("processor seconds of a training step, without and with refinement", compared)


def table(hosts: list[HostRun]) -> str:
    """The matrix as Markdown."""
    titles = [
        title
        for title in dict.fromkeys(t for host in hosts for t in host.results)
        if title not in ("commit", "scores", "timed")
    ]
    head = "| | " + " | ".join(f"{host.name} {host.results['commit']}" for host in hosts) + " |"
    lines = [head, "|" + " --- |" * (len(hosts) + 1)]
    for title in titles:
        cells = [str(host.results.get(title, "")).replace("|", "/") for host in hosts]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Find the hosts, run the checks, write the matrix; status 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hosts", type=Path, help="folder with checkouts")
    parser.add_argument("--only", nargs="+", default=None, metavar="NAME", help="adapters to run")
    parser.add_argument(
        "--checks", nargs="+", default=[""], metavar="PART", help="only checks with this in their title; others stay"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/hosts"), help="where everything is written")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs the hosts")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    data = out / "data"
    if not (data / "evaluation_index.json").is_file():
        subprocess.run([arguments.python, HERE / "make_re10k_like.py", data], check=True)
    known = json.loads((out / "matrix.json").read_text()) if (out / "matrix.json").is_file() else {}
    hosts: list[HostRun] = []

    def save() -> None:
        (out / "matrix.json").write_text(json.dumps(known | {h.name: h.results for h in hosts}, indent=1) + "\n")
        (out / "matrix.md").write_text(table(hosts))

    for folder in sorted(path for path in arguments.hosts.iterdir() if (path / "src").is_dir()):
        try:
            adapter, checkout = registry.choose("auto", folder)
        except PluginError:
            continue
        if checkout.root != folder.resolve() or (arguments.only and adapter.name not in arguments.only):
            continue
        host = HostRun(adapter.name, checkout.root, out, data, arguments.python, tuple(arguments.checks), save)
        host.results = known.get(adapter.name, {})
        host.results["commit"] = (checkout.commit or "unknown")[:7]
        hosts.append(host)
        examine(host)
    if not hosts:
        sys.exit(f"no host that any adapter recognizes in {arguments.hosts}")
    print(table(hosts))
    return int(any(str(value).startswith("NO") for host in hosts for value in host.results.values()))


if __name__ == "__main__":
    sys.exit(main())
