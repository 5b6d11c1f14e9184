"""What the plugin has to be told about a host: the base class of all adapters."""

from __future__ import annotations

import importlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2s
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from diff3r_plugin.alignment import PixelGrid
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.plugin.host.call import NO_CALL, Call
from diff3r_plugin.plugin.host.checkout import Checkout, Expectation
from diff3r_plugin.plugin.host.chosen_views import ViewChoice
from diff3r_plugin.plugin.host.feature_tap import Tap
from diff3r_plugin.plugin.host.refined_method import RefinedMethod
from diff3r_plugin.views import Views

Metric = Callable[[Tensor, Tensor], Tensor]
"""Of images in [0, 1], true and rendered, ``[N, 3, H, W]`` each; a value for each pair, ``[N]``."""


class HostAdapter(ABC):
    """Everything the plugin knows of one host, and nothing else.

    Attributes:
        name: Short name, as in ``diff3r.adapter=NAME``.
        repository: Where the host's source can be had.
        verified_commits: Commits this adapter was run against (first characters are enough).
        fingerprints: Files that all exist in the host's checkout.
        marks: What tells the host from a relative with the same files; where adapters derived from one another fit,
            the most derived one is taken.
        expectations: What the adapter relies on, checked by ``diff3r doctor``.
        wrapper: ``module:class`` of the host's LightningModule.
        hydra: Whether the host's main function runs under ``hydra.main``, whose configuration then holds the settings;
            else they come from the environment and from the command line.
        lightning: Whether Lightning trains the host. If not, ``wrapper`` is the host's model, a plain module, and the
            batches of ``loader`` are the steps.
        loader: ``module:class`` of what a loop without Lightning draws its batches from, by iterating over it.
        refined: The method of `encoder` whose calls are refined, by what it returns or by what it is given.
        mutable: Parameters of that method whose arguments `with_gaussians` writes to (a dictionary that the host's
            encoder notes cameras in, and its losses read).
        draws: Method of the wrapper, by its dotted path, whose images the host's test judges ("decoder.forward"): the
            end of a test compares them with what was refined. Empty: nothing is compared.
        tap: Where the uncertainty head reads features; None: it sees images and initial Gaussians instead.
        chosen_views: Where the encoder says which context views its Gaussians stand on; None: all of them.
        along_rays: Whether every Gaussian lies on the ray through its pixel, which is then checked once a stage.
        encoder_sees_poses: Whether the host's encoder is given the context poses that the refinement uses.
        predicts_poses: Whether the encoder's output holds the poses of the context views.
        unrefined: Dotted methods of the LightningModule within which encoder calls are left alone.

    Example: see ``diff3r_adapters.mini_host``.
    """

    name: str = ""
    repository: str = ""
    verified_commits: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    marks: tuple[Expectation, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    wrapper: str = "src.model.model_wrapper:ModelWrapper"
    hydra: bool = True
    lightning: bool = True
    loader: str = "torch.utils.data:DataLoader"
    refined: RefinedMethod = RefinedMethod()
    mutable: tuple[str, ...] = ()
    draws: str = ""
    tap: Tap | None = None
    chosen_views: ViewChoice | None = None
    along_rays: bool = False
    encoder_sees_poses: bool = True
    predicts_poses: bool = False
    unrefined: tuple[str, ...] = ()

    @classmethod
    def without_call(cls) -> list[str]:
        """Methods of an adapter that cannot be given the call which an output came from."""
        takers = ("context_views", "gaussians", "with_gaussians", "target_views", "render_targets", "render_context")
        return [name for name in takers if "call" not in inspect.signature(getattr(cls, name)).parameters]

    @classmethod
    def recognizes(cls, checkout: Checkout) -> bool:
        """Whether a checkout is this host (or a close variant of it)."""
        if not cls.fingerprints or not checkout.has(*cls.fingerprints):
            return False
        return all(mark.problem(checkout) is None for mark in cls.marks)

    def problems(self, checkout: Checkout) -> list[str]:
        """What in a checkout differs from what this adapter relies on."""
        return [problem for e in self.expectations if (problem := e.problem(checkout)) is not None]

    def verified(self, checkout: Checkout) -> bool:
        """Whether the checkout stands at a commit this adapter was run against."""
        return checkout.commit is not None and any(checkout.commit.startswith(c) for c in self.verified_commits)

    def wrapper_class(self) -> type[nn.Module]:
        """The host's LightningModule class, which the host has imported by now.

        Raises:
            PluginError: if the module or class is not there.
        """
        return self._imported(self.wrapper)

    def loader_class(self) -> type:
        """The class of the host's data loaders, where Lightning does not train it.

        Raises:
            PluginError: if the module or class is not there.
        """
        return self._imported(self.loader)

    def stage(self, model: nn.Module, loader: Any) -> str | None:
        """What a batch of a loader is for, where Lightning does not train the host.

        "train", "val" or "test"; None: not for this model.
        """
        return "train" if model.training else "test"

    def _imported(self, path: str) -> Any:
        module, _, name = path.partition(":")
        try:
            loaded = sys.modules.get(module) or importlib.import_module(module)
            return getattr(loaded, name)
        except (ImportError, AttributeError) as error:
            raise PluginError(f"adapter {self.name!r} needs {path}, which is unavailable: {error}") from error

    def attached(self, wrapper: nn.Module) -> None:  # noqa: B027
        """Told of a model before anything is asked about it: the place to note what its configuration decides."""

    @abstractmethod
    def encoder(self, wrapper: nn.Module) -> nn.Module:
        """The module whose calls are refined; the wrapper itself where there is no other."""

    def encoder_copies(self, wrapper: nn.Module) -> Iterable[nn.Module]:
        """Copies of the encoder within the wrapper that the host evaluates in its place: running means of its weights.

        Asked at the beginning of every validation and test step, for hosts make them when they begin to train.
        """
        return ()

    def gaussians_per_pixel(self, encoder: nn.Module) -> int:
        """How many Gaussians the encoder predicts a pixel; they stand in the order view, row, column, sample."""
        return 1

    def tap_of(self, encoder: nn.Module) -> Tap | None:
        """`tap`, or another one where a host has encoders of several kinds."""
        return self.tap

    def refined_of(self, encoder: nn.Module) -> RefinedMethod:
        """`refined`, or another method where the host's configuration decides which one carries the scene."""
        return self.refined

    def context_of(self, call: Call) -> Any:
        """The context views of a call: its first argument, or the one named "context"; others are in ``call.batch``."""
        return call.arguments[0] if call.arguments else call.named["context"]

    def alignment(self, encoder: nn.Module) -> tuple[PixelGrid, ...] | None:
        """The pixel grids that the Gaussians stand on, in the order of the Gaussians; None: they stand on no grid.

        Grids lie over all context views, or over those that `chosen_views` tells.
        """
        return (PixelGrid(per_pixel=self.gaussians_per_pixel(encoder)),)

    def batch_of_call(self, call: Call) -> Any:
        """The part of the step's batch that one call is about, in the form of a batch.

        The batch itself, unless a host calls its encoder several times a step, or gathers its batch within the step.
        """
        return call.batch

    @abstractmethod
    def context_views(self, wrapper: nn.Module, context: Any, output: Any, call: Call = NO_CALL) -> Views:
        """Cameras and images of the context views, and the image formation of the host's renderer.

        Images in [0, 1], intrinsics in pixels. Cameras that the host predicts are taken from the encoder's ``output``
        (or from an argument that it writes to), with their graph.
        """

    def poses_source(self, call: Call) -> str | None:
        """Whose poses the prediction of a call lies among, for hosts that change it from call to call.

        "batch": those of the data, which are then held; "predicted"; None: as ``diff3r.context_poses`` says for the
        stage. Asked where that setting is "auto".
        """
        return None

    def given_poses(self, wrapper: nn.Module, context: Any) -> Tensor | None:
        """For hosts that predict poses: ``world_to_camera`` of the context in the data; None where it has none."""
        return None

    def refinable(self, output: Any) -> bool:
        """Whether an encoder's output holds a scene at all."""
        return True

    @abstractmethod
    def gaussians(self, output: Any, scenes: int, call: Call = NO_CALL) -> Gaussians:
        """The ``scenes`` scenes in an encoder's output that are to be refined, with their graph."""

    def visible(self, call: Call, gaussians: Gaussians) -> Tensor | None:
        """Which Gaussians the host's decoder keeps, ``[B, N]`` bool; None: all of them.

        For decoders that drop some (by their opacity, say) before they render: those are neither rendered nor moved.
        """
        return None

    @abstractmethod
    def with_gaussians(
        self, output: Any, refined: Gaussians, cameras: Tensor | None = None, call: Call = NO_CALL
    ) -> Any:
        """The same kind of output with another scene; what the plugin does not refine is carried over.

        ``cameras``: refined ``world_to_camera`` of the context views, None where they did not move. A host that
        predicts poses gets them where its decoder and losses read them; others need not look at them. Arguments that
        `mutable` names may be written to: they are the host's own for the final result, and copies for every other.
        """

    def corrupted_pixels(self, batch: Any) -> Tensor | None:
        """Context pixels that the data knows to be corrupted, ``[B, V, H, W]`` bool; None where it knows nothing."""
        return None

    @abstractmethod
    def target_images(self, batch: Any) -> Tensor:
        """Ground truth of the target views, ``[B, V, 3, H, W]`` in [0, 1]."""

    def target_views(self, wrapper: nn.Module, batch: Any, output: Any, call: Call = NO_CALL) -> Views:
        """Cameras and images of the target views, as ``context_views`` gives those of the context."""
        views = self.context_views(wrapper, batch["target"], output, call)
        return views.replace(images=self.target_images(batch))

    @abstractmethod
    def render_targets(self, wrapper: nn.Module, output: Any, batch: Any, call: Call = NO_CALL) -> Tensor:
        """The target views as the host's own decoder renders them, ``[B, V, 3, H, W]``."""

    def render_context(self, wrapper: nn.Module, output: Any, batch: Any, call: Call = NO_CALL) -> Tensor | None:
        """The context views as the host's own decoder renders them, ``[B, V, 3, H, W]``; None: it cannot."""
        return None

    def drawn_images(self, drawn: Any) -> Tensor:
        """The images in what `draws` returned, ``[B, V, 3, H, W]``."""
        return drawn.color

    def scene_names(self, batch: Any) -> list[str]:
        """Names of the scenes of a batch: those under "scene"; where there are none, made from the target images."""
        if isinstance(batch, Mapping) and "scene" in batch:
            return [str(name) for name in batch["scene"]]
        images = self.target_images(batch).detach().float().cpu().contiguous()
        return [f"scene_{blake2s(scene.numpy().tobytes(), digest_size=4).hexdigest()}" for scene in images]

    def metric(self, name: str) -> Metric | None:
        """The host's own ``ssim`` or ``lpips``; None where it has none, and scores are ours."""
        return None

    def checkpoint(self, wrapper: nn.Module, config: Any) -> str | None:
        """The checkpoint that the model was loaded from, as far as that can be known."""
        return getattr(getattr(wrapper, "_trainer", None), "ckpt_path", None)

    def scores_folder(self, wrapper: nn.Module, config: Any) -> Path:
        """Where the host writes the scores of its test."""
        return Path.cwd()
