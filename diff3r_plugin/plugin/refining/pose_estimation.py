"""Poses of the context views from the prediction itself, for hosts whose encoder is not shown them.

Such a host predicts one or more Gaussians for every pixel of every view, all in the frame of the first view. So the
pixels of another view and the Gaussians they became are points and their projections: a perspective-n-point problem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.plugin.errors import PluginError
from diff3r_plugin.views import Views

OPAQUE = 0.3
"""Gaussians less opaque than this hardly shape the rendering; they are used only where there are too few others."""

LEAST_USED = 0.25
"""At least this share of a view's pixels takes part."""

MOST_USED = 8192
"""More correspondences make a pose no better and cost time."""

TOLERANCE = 0.02
"""Reprojection error of an inlier, in units of the image's longer side (5 pixels at 256)."""

LEAST_INLIERS = 0.2
"""A pose that a smaller share of the correspondences agrees with is not believed."""

ROUNDS = 500
"""RANSAC's samples of four: enough for an all-inlier one with probability 1 - 1e-6 at 60 % outliers."""

REFITS, STAY = 12, 0.5
"""Least-squares fits at most, and the share of the inliers that must stay for a closer tolerance."""


@dataclass(frozen=True, eq=False)
class PoseEstimate:
    """Poses of the context views in the frame of the first one.

    Args:
        world_to_camera: ``[B, V, 4, 4]``, OpenCV axes, the identity for the first view; where a scene failed, for all.
        inliers: Share of the correspondences that agree with the pose, ``[B, V]`` in [0, 1].
        failures: Why a scene has no poses; None where it has.
    """

    world_to_camera: Float[Tensor, "B V 4 4"]
    inliers: Float[Tensor, "B V"]
    failures: tuple[str | None, ...]

    @property
    def failed(self) -> Bool[Tensor, " B"]:
        """Scenes without poses."""
        return torch.tensor([f is not None for f in self.failures], device=self.world_to_camera.device)

    def or_nan(self) -> Float[Tensor, "B V 4 4"]:
        """The poses, NaN for scenes that failed: the layer leaves such scenes as they are and says so."""
        return torch.where(self.failed[:, None, None, None], math.nan, self.world_to_camera)


def opencv() -> Any:
    """The module ``cv2``.

    Raises:
        PluginError: where it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise PluginError(
            f"estimating context poses needs OpenCV, which cannot be imported ({error}): pip install opencv-python, or "
            "take the poses of the data by diff3r.context_poses=batch."
        ) from error
    return cv2


def estimate_poses(gaussians: Gaussians, views: Views) -> PoseEstimate:
    """Poses by RANSAC on four correspondences, then least squares over the inliers (OpenCV).

    Of the Gaussians of a pixel the most opaque one takes part. The first view is the frame of the prediction: its pose
    is the identity by definition, and only its share of inliers is measured (a scene whose first view disagrees with
    its own frame fails as well). Nothing is differentiated.

    Args:
        gaussians: Predicted scenes, pixel-aligned in the order (view, row, column, sample), in the first view's frame.
        views: The context views; of their cameras only the intrinsics are looked at.

    Raises:
        ValueError: if the number of Gaussians is no multiple of that of pixels.
        PluginError: without OpenCV.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, Views
        >>> from diff3r_plugin.plugin.refining.pose_estimation import estimate_poses
        >>> K = torch.tensor([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]])
        >>> y, x = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="ij")
        >>> rays = torch.stack([x, y, torch.ones(8, 8)], -1).reshape(-1, 3) @ K.inverse().T
        >>> seen = rays * torch.linspace(1, 2, 64)[:, None]  # by either camera, in its own frame
        >>> means = torch.cat([seen, seen + torch.tensor([1.0, 0, 0])])[None]  # the second one stands at x = 1
        >>> g = Gaussians(means, torch.eye(3).expand(1, 128, 3, 3), torch.ones(1, 128), torch.zeros(1, 128, 3, 1))
        >>> views = Views(torch.eye(4).expand(1, 2, 4, 4), K.expand(1, 2, 3, 3), image_size=(8, 8))
        >>> round(estimate_poses(g, views).world_to_camera[0, 1, 0, 3].item(), 3)
        -1.0
    """
    cv2 = opencv()
    (H, W), (B, V) = views.image_size, views.world_to_camera.shape[:2]
    samples, rest = divmod(gaussians.num_gaussians, V * H * W)
    if rest or not samples:
        raise ValueError(
            f"poses can be estimated from pixel-aligned Gaussians only: {gaussians.num_gaussians} Gaussians are no "
            f"multiple of the {V * H * W} pixels of {V} views of {H}x{W}. Use diff3r.context_poses=batch."
        )
    opacities = gaussians.opacities.detach().double().cpu().reshape(B, V, H * W, samples)
    opacities, best = opacities.nan_to_num(-1.0).max(-1)
    means = gaussians.means.detach().double().cpu().reshape(B, V, H * W, samples, 3)
    means = means.gather(3, best[..., None, None].expand(-1, -1, -1, 1, 3))[..., 0, :]
    rows, columns = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], -1).reshape(-1, 2).double()
    intrinsics = views.intrinsics.detach().double().cpu()

    poses = torch.eye(4, dtype=torch.float64).repeat(B, V, 1, 1)
    inliers = torch.zeros(B, V, dtype=torch.float64)
    failures: list[str | None] = []
    for b in range(B):
        failure = None
        for v in range(V):
            chosen = _chosen(means[b, v], opacities[b, v])
            points, seen = means[b, v][chosen], pixels[chosen]
            found: tuple[Tensor, Tensor] | None
            if v == 0:
                found = poses[b, v], _agreeing(points, seen, intrinsics[b, v], poses[b, v], max(H, W)).double().mean()
            else:
                found = _solve(cv2, points, seen, intrinsics[b, v], max(H, W))
            if found is None or found[1].isnan():
                failure = failure or f"no pose of view {v} fits {len(points)} of its pixels"
                continue
            poses[b, v], inliers[b, v] = found
            if inliers[b, v] < LEAST_INLIERS:
                failure = failure or (
                    f"only {inliers[b, v]:.0%} of {len(points)} pixels agree with the pose of view {v}, "
                    f"{LEAST_INLIERS:.0%} are needed"
                )
        if failure is not None:
            poses[b] = torch.eye(4, dtype=torch.float64)
        failures.append(failure)
    like = views.world_to_camera
    return PoseEstimate(poses.to(like), inliers.to(like), tuple(failures))


def pose_errors(
    found: Float[Tensor, "B V 4 4"], given: Float[Tensor, "B V 4 4"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Degrees between two sets of poses, each taken relative to its first view; means over the other views.

    Args:
        found: world-to-camera matrices.
        given: The ones to compare with; NaN where there are none.

    Returns:
        Angle of the relative rotation, and angle between the directions from the first camera to the others (the
        scale of a prediction is its own); NaN with a single view.
    """
    found, given = found.double(), given.double()
    first, second = (poses[:, 1:] @ torch.linalg.inv_ex(poses[:, :1]).inverse for poses in (found, given))
    difference = first[..., :3, :3] @ second[..., :3, :3].mT
    # accurate for small angles, unlike the arc cosine of the trace
    sine = (difference - difference.mT)[..., [2, 0, 1], [1, 2, 0]].norm(dim=-1)
    cosine = difference.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    rotation = torch.rad2deg(torch.atan2(sine, cosine)).mean(1)
    centers = [-(poses[..., :3, :3].mT @ poses[..., :3, 3:])[..., 0] for poses in (first, second)]
    aside = torch.linalg.cross(*centers).norm(dim=-1)
    return rotation, torch.rad2deg(torch.atan2(aside, (centers[0] * centers[1]).sum(-1))).mean(1)


def _chosen(points: Tensor, opacities: Tensor) -> Tensor:
    """Which pixels of one view take part: finite, opaque, and not too many of them."""
    usable = (points.isfinite().all(-1) & (opacities >= 0)).nonzero()[:, 0]
    count = max(int((opacities[usable] >= OPAQUE).sum()), math.ceil(LEAST_USED * len(usable)))
    chosen = usable[opacities[usable].argsort(descending=True, stable=True)[:count]].sort().values
    return chosen[torch.linspace(0, len(chosen) - 1, MOST_USED).long()] if len(chosen) > MOST_USED else chosen


def _solve(cv2: Any, points: Tensor, seen: Tensor, intrinsics: Tensor, side: int) -> tuple[Tensor, Tensor] | None:
    """world-to-camera of one view and its share of inliers; None where there is none."""
    if len(points) < 4:
        return None
    matrix, world, pixels = intrinsics.numpy(), points.numpy(), seen.numpy()
    try:
        found, _, _, sample = cv2.solvePnPRansac(
            world, pixels, matrix, None, iterationsCount=ROUNDS, reprojectionError=TOLERANCE * side,
            confidence=0.9999, flags=cv2.SOLVEPNP_AP3P,
        )  # fmt: skip
        if not found or len(sample) < 4:
            return None
        # the pose that comes with the inliers is EPnP's, which is far off where the points lie in a plane
        agreeing = sample[:, 0]
        pose = _refitted(cv2, points, seen, intrinsics, side, agreeing)
    except cv2.error:
        return None  # degenerate points: all in one place, for instance
    if pose is None or not pose.isfinite().all():
        return None
    return pose, _agreeing(points, seen, intrinsics, pose, side).double().mean()


def _refitted(cv2: Any, points: Tensor, seen: Tensor, intrinsics: Tensor, side: int, agreeing: Any) -> Tensor | None:
    """Least squares over the inliers of a sample of four, then over those of their common pose, ever closer ones.

    A tolerance that suits a network's points lets through outliers that project near by chance, and one of them that is
    close to the camera turns the pose of exact points by a degree. So the tolerance is halved as long as half of the
    inliers keep to it, as in least trimmed squares (Rousseeuw 1984).
    """
    matrix, world, pixels = intrinsics.numpy(), points.numpy(), seen.numpy()
    pose, tolerance, most = None, TOLERANCE, 0
    for _ in range(REFITS):
        found, turn, shift = cv2.solvePnP(world[agreeing], pixels[agreeing], matrix, None, flags=cv2.SOLVEPNP_SQPNP)
        if not found:
            return None
        turn, shift = cv2.solvePnPRefineLM(world[agreeing], pixels[agreeing], matrix, None, turn, shift)
        pose = _matrix(cv2, turn, shift)
        most = most or int(_agreeing(points, seen, intrinsics, pose, side).sum())
        if most < 4:
            return None
        closer = _agreeing(points, seen, intrinsics, pose, side, tolerance / 2).numpy()
        if closer.sum() >= STAY * most:
            agreeing, tolerance = closer, tolerance / 2
            continue
        stay = _agreeing(points, seen, intrinsics, pose, side, tolerance).numpy()
        if stay.sum() < 4 or (stay.shape == agreeing.shape and (stay == agreeing).all()):
            break
        agreeing = stay
    return pose


def _matrix(cv2: Any, turn: Any, shift: Any) -> Tensor:
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = torch.from_numpy(cv2.Rodrigues(turn)[0]), torch.from_numpy(shift).reshape(3)
    return pose


def _agreeing(
    points: Tensor, seen: Tensor, intrinsics: Tensor, pose: Tensor, side: int, tolerance: float = TOLERANCE
) -> Bool[Tensor, " M"]:
    """Points in front of the camera that it sees where they belong."""
    inside = points @ pose[:3, :3].mT + pose[:3, 3]
    projected = inside @ intrinsics.mT
    error = (projected[:, :2] / projected[:, 2:] - seen).norm(dim=-1)
    return (inside[:, 2] > 0) & (error < tolerance * side)
