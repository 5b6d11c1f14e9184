"""Where the views of a refinement stand and how they are exposed, where poses and exposures are among its unknowns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.coordinates.poses import PoseChart
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.groups import GROUPS
from diff3r_plugin.groups.exposure import decode_exposure
from diff3r_plugin.linearized import linearize_theta
from diff3r_plugin.linearized.protocol import ThetaLinearization
from diff3r_plugin.render import render
from diff3r_plugin.views import Views

FIT_STEPS, FIT_DAMPING = 8, 1e-3
"""Steps of one view, and their first damping, relative to the diagonal."""
LEAST_GAIN = 1e-4
"""Of the energy: a step that gains less is the last."""
NO_WEIGHTS = {"poses": 0.0, "exposure": 0.0}
NONE = torch.zeros(1, 1, 6)


def view_groups(groups: Sequence[str]) -> tuple[str, ...]:
    """Those of the groups that belong to views.

    Example:
        >>> from diff3r_plugin.refine.cameras import view_groups
        >>> view_groups(("means", "exposure"))
        ('exposure',)
    """
    return tuple(group for group in groups if GROUPS[group].of_views)


@dataclass(frozen=True, eq=False)
class Cameras:
    """What is known of the context views by now.

    Args:
        world_to_camera: Their poses, ``[F, 4, 4]``.
        exposure: Log-gains and biases by channel, θ of the group ``exposure``, ``[F, 6]``; zero as the images are.
    """

    world_to_camera: Float[Tensor, "F 4 4"]
    exposure: Float[Tensor, "F 6"]

    @classmethod
    def given(cls, world_to_camera: Float[Tensor, "F 4 4"]) -> Cameras:
        """As they were given."""
        poses = world_to_camera.detach().float()
        return cls(poses, poses.new_zeros(len(poses), 6))

    def placed(self, views: Views, numbers: Sequence[int]) -> Views:
        """The views of these numbers, where they stand by now."""
        poses = self.world_to_camera[list(numbers)][None]
        return views.replace(world_to_camera=poses.to(views.world_to_camera))

    def exposures(self, numbers: Sequence[int]) -> Float[Tensor, "1 V 6"]:
        """Of some views."""
        return self.exposure[list(numbers)][None]

    def with_views(
        self, numbers: Sequence[int], world_to_camera: Float[Tensor, "1 V 4 4"], exposure: Float[Tensor, "1 V 6"]
    ) -> Cameras:
        """With what was found of some views."""
        poses, exposures, chosen = self.world_to_camera.clone(), self.exposure.clone(), list(numbers)
        poses[chosen], exposures[chosen] = world_to_camera[0].to(poses), exposure[0].to(exposures)
        return Cameras(poses, exposures)

    def balanced(self, numbers: Sequence[int], given: Float[Tensor, "F 4 4"]) -> Cameras:
        """Without what a scene could make up for: a motion, turn and scale that views share, and their mean exposure.

        Args:
            numbers: Views whose mean counts.
            given: Poses as they were given: the frame that stays.

        Example:
            >>> import torch
            >>> from diff3r_plugin.refine.cameras import Cameras
            >>> cameras = Cameras(torch.eye(4).repeat(3, 1, 1), torch.tensor([0.1, 0.3, 9.0])[:, None].expand(3, 6))
            >>> cameras.balanced([0, 1], torch.eye(4).repeat(3, 1, 1)).exposure[:, 0]
            tensor([-0.1000,  0.1000,  8.8000])
        """
        chosen = list(numbers)
        exposure = self.exposure - self.exposure[chosen].mean(0)
        if torch.equal(self.world_to_camera, given.to(self.world_to_camera)):
            return Cameras(self.world_to_camera, exposure)
        now, before = (torch.linalg.inv(poses.double()) for poses in (self.world_to_camera, given))
        difference = now[chosen, :3, :3] @ before[chosen, :3, :3].mT
        turn = _nearest_rotation(difference.mean(0))
        turned = now.clone()
        turned[:, :3, :3] = turn.mT @ now[:, :3, :3]
        middle, before = now[chosen, :3, 3].mean(0), before[chosen, :3, 3]
        around = before - before.mean(0)
        placed = (now[:, :3, 3] - middle) @ turn  # row vectors: the inverse of the turn
        spread = around.square().sum()
        scale = (placed[chosen] * around).sum() / spread if spread > 0 else spread.new_ones(())
        turned[:, :3, 3] = placed / scale.clamp(0.5, 2) + before.mean(0)
        return Cameras(torch.linalg.inv(turned).to(self.world_to_camera), exposure)


def _nearest_rotation(matrix: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    left, _, right = torch.linalg.svd(matrix)
    sign = torch.ones(3, dtype=matrix.dtype)
    sign[2] = torch.linalg.det(left @ right).sign()
    return (left * sign) @ right


def fitted(
    scene: Gaussians,
    views: Views,
    exposure: Float[Tensor, "1 V 6"],
    groups: Sequence[str],
    backend: str,
    *,
    given: Float[Tensor, "1 V 4 4"] | None = None,
    pixel_weights: Float[Tensor, "1 V H W"] | None = None,
    weights: Mapping[str, float] = NO_WEIGHTS,
    steps: int = FIT_STEPS,
) -> tuple[Views, Float[Tensor, "1 V 6"]]:
    """The views with their poses and exposures (whichever move) fitted to a scene that stays as it is.

    By Levenberg-Marquardt on the squared error of each view alone: its unknowns are twelve at most, so that the normal
    equations are made by six products J v and solved as they are.

    Args:
        scene: One scene.
        views: With images, where they are thought to stand.
        exposure: What is thought of their exposure.
        groups: All that move; without those of views, nothing is done.
        backend: Render backend.
        given: Where poses are held near; by default where ``views`` are.
        pixel_weights: Of each pixel; one by default.
        weights: Of ``poses`` and ``exposure``, which are held near ``given`` and near none.
        steps: At most; one that does not lower the error is not taken.
    """
    if not view_groups(groups):
        return views, exposure
    given = views.world_to_camera if given is None else given
    found = []
    with torch.no_grad():
        scene = scene.with_covariances()  # once, not at every rendering
        for number in range(views.num_views):
            at = slice(number, number + 1)
            one = views.replace(
                world_to_camera=views.world_to_camera[:, at],
                intrinsics=views.intrinsics[:, at],
                images=views.given_images[:, at],
                near=views.near[:, at],
                far=views.far[:, at],
            )
            counted = torch.ones_like(one.given_images[:, :, 0]) if pixel_weights is None else pixel_weights[:, at]
            fit = _ViewFit(scene, groups, given[:, at], counted, {**NO_WEIGHTS, **weights}, backend)
            found.append(fit.run(one, exposure[:, at].to(given.dtype), steps))
    poses, exposures = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    return views.replace(world_to_camera=poses), exposures


class _ViewFit:
    """Levenberg-Marquardt of one view's pose and exposure; see :func:`fitted`."""

    def __init__(
        self,
        scene: Gaussians,
        groups: Sequence[str],
        given: Float[Tensor, "1 1 4 4"],
        pixel_weights: Float[Tensor, "1 1 H W"],
        weights: Mapping[str, float],
        backend: str,
    ) -> None:
        self._scene, self._given, self._pixel_weights, self._backend = scene, given, pixel_weights, backend
        held = [weights["poses"]] * 6 + [weights["exposure"]] * 6
        self._held = torch.tensor(held, dtype=torch.float64, device=scene.device)
        moves = ["poses" in groups] * 6 + ["exposure" in groups] * 6
        self._moves = torch.tensor(moves, device=scene.device).nonzero()[:, 0]

    def run(
        self, view: Views, exposure: Float[Tensor, "1 1 6"], steps: int
    ) -> tuple[Float[Tensor, "1 1 4 4"], Float[Tensor, "1 1 6"]]:
        damping, here = FIT_DAMPING, self._linearized(view)
        energy = self._energy(here.image, view, exposure)
        for number in range(steps):
            matrix, gradient = self._normal_equations(here, view, exposure)
            moves = self._moves
            matrix, gradient = matrix[moves][:, moves], gradient[moves]
            step = torch.zeros_like(self._held)
            step[moves], failed = torch.linalg.solve_ex(matrix + damping * matrix.diagonal().diag(), -gradient)
            if failed or not step.isfinite().all():
                break
            step = step.to(exposure.dtype)
            chart = PoseChart(view.world_to_camera)
            moved = view.replace(world_to_camera=chart.decode(step[:6].expand_as(exposure)))
            exposed = exposure + step[6:]
            there = self._linearized(moved) if number + 1 < steps else None
            image = there.image if there is not None else shown(self._scene, moved, NONE, self._backend)
            reached = self._energy(image, moved, exposed)
            if reached < energy:
                gained, energy = energy - reached, reached
                view, exposure, damping = moved, exposed, damping / 10
                if there is None or gained < LEAST_GAIN * energy:
                    break
                here = there
            else:
                damping *= 100
        return view.world_to_camera, exposure

    def _linearized(self, view: Views) -> ThetaLinearization:
        coordinates = Coordinates(self._scene, view, ("poses",))
        start = torch.zeros(1, 6, dtype=self._scene.dtype, device=self._scene.device)
        return linearize_theta(coordinates, start, view, self._backend)

    def _apart(self, view: Views, exposure: Float[Tensor, "1 1 6"]) -> Float[Tensor, " 12"]:
        """How far the view is from where it was given."""
        return torch.cat([-small_motion(view.world_to_camera, self._given)[0, 0], exposure[0, 0]]).double()

    def _energy(self, rendered: Float[Tensor, "1 1 3 H W"], view: Views, exposure: Float[Tensor, "1 1 6"]) -> float:
        residual = decode_exposure(exposure).apply(rendered).clamp_(max=1.0).sub_(view.given_images)
        data = (self._pixel_weights[:, :, None] * residual.square_()).sum()
        return float(data + (self._held * self._apart(view, exposure).square()).sum())

    def _normal_equations(
        self, here: ThetaLinearization, view: Views, exposure: Float[Tensor, "1 1 6"]
    ) -> tuple[Float[Tensor, "12 12"], Float[Tensor, " 12"]]:
        gain = decode_exposure(exposure).gain[0, 0, :, None]
        rendered = here.image[0, 0].flatten(1)
        columns = torch.stack([here.jvp(unit[None])[0, 0].flatten(1) for unit in torch.eye(6).to(gain)])
        residual = (gain * rendered + exposure[0, 0, 3:, None]).clamp(max=1.0) - view.given_images[0, 0].flatten(1)
        weights = self._pixel_weights.flatten()
        matrix, gradient = self._held.diag(), self._held * self._apart(view, exposure)
        for channel in range(3):  # an exposure's numbers act on one channel each
            own = torch.cat([*(gain[channel] * columns[:, channel]), gain[channel] * rendered[channel]]).unflatten(
                0, (7, -1)
            )
            own = torch.cat([own, torch.ones_like(own[:1])])
            rows = torch.tensor([*range(6), 6 + channel, 9 + channel], device=gain.device)
            weighted = own * weights
            matrix[rows[:, None], rows] += (weighted @ own.mT).double()
            gradient[rows] += (weighted @ residual[channel]).double()
        return matrix, gradient


def small_motion(start: Float[Tensor, "*batch 4 4"], end: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 6"]:
    """θ with Exp(θ) · start = end to first order: translation and rotation vector in the camera's frame.

    Example:
        >>> import torch
        >>> from diff3r_plugin.coordinates.poses import PoseChart
        >>> from diff3r_plugin.refine.cameras import small_motion
        >>> theta = torch.tensor([[[0.01, -0.02, 0.03, 0.002, 0.001, -0.003]]])
        >>> start = torch.eye(4)[None, None]
        >>> torch.allclose(small_motion(start, PoseChart(start).decode(theta)), theta, atol=1e-4)
        True
    """
    turn = end[..., :3, :3] @ start[..., :3, :3].mT
    shift = end[..., :3, 3] - (turn @ start[..., :3, 3:])[..., 0]
    skew = 0.5 * (turn - turn.mT)
    return torch.cat([shift, skew[..., [2, 0, 1], [1, 2, 0]]], -1)


def unexposed(views: Views, exposure: Float[Tensor, "1 V 6"]) -> Views:
    """The views with the images that they would have taken at no exposure of their own: what the scene is fitted to."""
    if not exposure.any():
        return views
    own = decode_exposure(exposure.to(views.dtype))
    images = (views.given_images - own.bias[..., None, None]) / own.gain[..., None, None]
    return views.replace(images=images.clamp(0, 1))


def shown(scene: Gaussians, views: Views, exposure: Float[Tensor, "1 V 6"], backend: str) -> Float[Tensor, "1 V 3 H W"]:
    """The images that the views would take of the scene."""
    with torch.no_grad():
        rendered = render(scene, views.replace(images=None, image_size=views.image_size), backend)
        return decode_exposure(exposure.to(rendered)).apply(rendered) if exposure.any() else rendered
