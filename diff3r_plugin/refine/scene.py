"""The refinement in rounds as a function of tensors, for code that has its scene and views in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.groups.exposure import Exposure, decode_exposure
from diff3r_plugin.refine.checkpoint import Checkpoint
from diff3r_plugin.refine.refinement import Refinement
from diff3r_plugin.refine.settings import RoundSettings
from diff3r_plugin.refine.sources import ViewsInMemory
from diff3r_plugin.views import Views


@dataclass(frozen=True, eq=False)
class SceneResult:
    """A refined scene.

    Args:
        scene: That of the last round; where validation views decide and ``settings.rounds`` does not, settled from the
            best one; where both are there, that of the best one.
        rounds: What is recorded of each round: views, energies, steps, Gaussians, validation PSNR, seconds.
        best_round: Number of the best one, from 1; None without validation.
        world_to_camera: Where the views were found to stand; None where poses do not move.
        exposure: What their cameras were found to do to colors; None where exposures do not move.
    """

    scene: Gaussians
    rounds: list[dict[str, Any]]
    best_round: int | None
    world_to_camera: Float[Tensor, "1 V 4 4"] | None = None
    exposure: Exposure | None = None


def refine_scene(
    gaussians: Gaussians,
    views: Views,
    settings: RoundSettings | None = None,
    *,
    pixel_weights: Float[Tensor, "1 V H W"] | None = None,
    from_points: bool = False,
    after_round: Callable[[Mapping[str, Any]], None] | None = None,
) -> SceneResult:
    """Refine one scene on posed images, as ``diff3r refine`` does, without files and without gradients.

    The place of a host's own optimization after its prediction. Compared with one call of
    :class:`~diff3r_plugin.TTOLayer`: any number of views, a few at a time; the scene may grow; views that no round sees
    tell when to end.

    Args:
        gaussians: One scene. One that grows comes back with scales and quaternions.
        views: Its context views, with images in [0, 1].
        settings: How; the defaults of :class:`RoundSettings`.
        pixel_weights: Of each pixel's squared error, not negative: zero where a mask leaves it out. One by default.
        from_points: The scene is a cloud of points yet, so that it takes many rounds and grows by itself.
        after_round: Is given the record of each round.

    Raises:
        RefineError: if nothing can be done with the scene or the views.
        ValueError: for several scenes at once, views without images, or a setting out of its range.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.refine import RoundSettings, refine_scene
        >>> means, covariances = torch.tensor([[[0.0, 0, 2]]]), 0.01 * torch.eye(3)[None, None]
        >>> g = Gaussians(means, covariances, torch.full((1, 1), 0.5), torch.ones(1, 1, 3, 1))
        >>> K = torch.tensor([[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]).expand(1, 2, 3, 3)
        >>> views = Views(torch.eye(4).expand(1, 2, 4, 4), K, torch.rand(1, 2, 3, 16, 16))
        >>> result = refine_scene(g, views, RoundSettings(views_per_round=1, rounds=4))
        >>> len(result.rounds), result.scene.num_gaussians
        (4, 1)
    """
    settings = settings or RoundSettings()
    if gaussians.batch_size != 1:
        raise ValueError(
            f"refine_scene takes one scene, got {gaussians.batch_size}: give gaussians.map(lambda t: t[i : i + 1])."
        )
    refinement = Refinement.of(settings, gaussians, ViewsInMemory(views, pixel_weights), from_points=from_points)

    def told(state: Checkpoint) -> None:
        if after_round is not None:
            after_round(state.rounds[-1])

    state = refinement.run(Checkpoint(gaussians.detach(), []), told)
    groups, cameras = settings.tto.groups, state.result_cameras
    poses = cameras.world_to_camera[None] if cameras is not None and "poses" in groups else None
    exposure = decode_exposure(cameras.exposure[None]) if cameras is not None and "exposure" in groups else None
    return SceneResult(state.result, state.rounds, state.best_round, poses, exposure)
