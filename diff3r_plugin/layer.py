"""The differentiable optimization layer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diff3r_plugin.camera_gradients import carried_along, depends_on_cameras, images_with_camera_graph
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.containment import (
    choose,
    finite_scenes,
    like,
    ordinary,
    ordinary_views,
    stand_in,
    stand_in_views,
    valid_scenes,
    with_graph,
)
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.implicit import implicit_solution
from diff3r_plugin.info import BackwardInfo, Outcome, StationarityWarning, TTOInfo
from diff3r_plugin.linalg import PCGReason
from diff3r_plugin.objective import Objective
from diff3r_plugin.optimize import Adam, GaussNewton, InnerSolution, InnerSolver, minimize
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.render import resolve_backend
from diff3r_plugin.views import Views


class TTOLayer(nn.Module):
    """Refine Gaussians on their context views, differentiably (Diff3R, arXiv 2604.01030).

    For each scene it minimizes E(θ) = ½ Σ w r² + ½ Σ Λ (θ − θ0)², r = rendering − image, from the predicted
    θ0, and returns the scene at the minimizer. Gradients reach the tensors of ``gaussians`` and ``weights`` (and, if
    they ask for it, ``views.images`` and ``pixel_weights``) by ``config.backward_mode``. It holds no parameters.

    Never returns a scene of higher energy than the one it was given; a scene with which something is wrong (a NaN, a
    covariance that is not positive) comes back as it was, is reported in ``info.outcomes``, and does not disturb the
    others. Works under ``no_grad``, ``inference_mode`` and autocast (computes in float32, or float64 for such inputs).

    Args:
        config: Settings; see :class:`TTOConfig`.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, TTOConfig, TTOLayer, Views
        >>> means, covariances = torch.tensor([[[0.0, 0, 2]]]), 0.01 * torch.eye(3)[None, None]
        >>> g = Gaussians(means, covariances, torch.full((1, 1), 0.5), torch.ones(1, 1, 3, 1))
        >>> K = torch.tensor([[[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]]])
        >>> views = Views(torch.rand(1, 1, 3, 16, 16), torch.eye(4)[None, None], K)
        >>> refined, info = TTOLayer(TTOConfig(inner_steps=3))(g, views, weights=0.1)
        >>> bool((info.energy[-1] <= info.energy[0]).all())
        True
    """

    def __init__(self, config: TTOConfig | None = None) -> None:
        super().__init__()
        self.config = config or TTOConfig()

    def forward(
        self,
        gaussians: Gaussians,
        views: Views,
        weights: ProximalWeights | Mapping[str, Tensor | float] | Tensor | float,
        pixel_weights: Float[Tensor, "B V H W"] | None = None,
    ) -> tuple[Gaussians, TTOInfo]:
        """Refine.

        Args:
            gaussians: Predicted scenes.
            views: Context cameras with images in [0, 1].
            weights: Proximal weights Λ: a number, a mapping of groups, or :class:`ProximalWeights`.
            pixel_weights: Weight of each pixel's squared error, ``[B, V, H, W]``, not negative; one by default.

        Returns:
            The refined scenes in the form of the given ones (same dtype, covariances or scales and quats), and
            :class:`TTOInfo`.

        Raises:
            ValueError: for images outside [0, 1], shapes or devices that disagree, weights that are not
                positive, or a backend that cannot do what the backward mode needs.
        """
        self._check(gaussians, views, pixel_weights)
        # Validation and test loops run in inference mode, whose tensors cannot take part in any derivative.
        inference = torch.is_inference_mode_enabled()
        with torch.inference_mode(False), torch.autocast(gaussians.device.type, enabled=False):
            grad = torch.is_grad_enabled() and not inference
            with torch.set_grad_enabled(grad):
                return self._refine(gaussians, views, ProximalWeights.of(weights), pixel_weights)

    def _refine(
        self, given: Gaussians, views: Views, weights: ProximalWeights, pixel_weights: Tensor | None
    ) -> tuple[Gaussians, TTOInfo]:
        started = time.perf_counter()
        config = self.config
        dtype = torch.promote_types(given.dtype, torch.float32)
        gaussians = given.map(lambda t: ordinary(t).to(dtype))
        given_views = with_graph(views, dtype)
        views, images = ordinary_views(views, dtype)

        unusable_views = ~finite_scenes(images, views.world_to_camera, views.intrinsics)
        unusable = ~valid_scenes(gaussians)
        broken = unusable | unusable_views
        if broken.any():
            gaussians_in, views = stand_in(gaussians, broken), stand_in_views(views, broken)
            given_views = stand_in_views(given_views, broken)
            images = torch.where(like(broken, images), 0.0, images)
        else:
            gaussians_in = gaussians

        coordinates = Coordinates(gaussians_in, views, config.groups)
        theta0 = coordinates.encode(gaussians_in)
        flat_weights = weights.flatten(coordinates, theta0)
        if pixel_weights is None:
            pixel_weights = torch.ones_like(images[:, :, 0])
        else:
            pixel_weights = ordinary(pixel_weights).to(dtype)
        theta, solution, backward = self._solve(coordinates, given_views, theta0, flat_weights, images, pixel_weights)

        stuck = (solution.accepted_steps == 0) & (config.inner_steps > 0)
        nothing = stuck & solution.stationary_start
        refined = coordinates.apply(theta, gaussians_in)
        # A stationary start is its own solution, and the theorem holds there; a failed descent has no gradient of
        # its own, so what was given goes out as it came in.
        given_back = broken | (stuck & ~nothing)
        if given_back.any():
            refined = choose(given_back, gaussians, refined)
        info = TTOInfo(
            energy=solution.energy,
            stationarity=solution.stationarity,
            accepted_steps=solution.accepted_steps,
            pcg_iterations=solution.pcg_iterations,
            pcg_relative_residual=solution.pcg_relative_residual,
            pcg_reasons=tuple(
                tuple(PCGReason)[code] if code >= 0 else None for code in solution.pcg_reason_codes.tolist()
            ),
            outcomes=_outcomes(unusable, unusable_views, nothing, stuck),
            fell_back=broken | stuck,
            world_to_camera=carried_along(
                coordinates.decode_cameras(theta, views).world_to_camera, given_views.world_to_camera
            )
            if "poses" in coordinates.shapes
            else None,
            seconds=time.perf_counter() - started,
        )
        backward.append(info)
        return refined.map(lambda t: t.to(given.dtype)), info

    def _solve(
        self,
        coordinates: Coordinates,
        given_views: Views,
        theta0: Tensor,
        weights: Tensor,
        images: Tensor,
        pixel_weights: Tensor,
    ) -> tuple[Tensor, InnerSolution, list[TTOInfo]]:
        """θ* with the graph that the backward mode asks for, and a list that wants the call's info appended."""
        config = self.config
        infos: list[TTOInfo] = []
        views = given_views.detach()
        differentiable_steps = 0
        if torch.is_grad_enabled() and config.backward_mode in ("unroll", "truncated"):
            differentiable_steps = config.inner_steps
            if config.backward_mode == "truncated":
                differentiable_steps = min(config.truncated_steps, config.inner_steps)
            if resolve_backend(config.backend, theta0.device) != "torch":
                raise ValueError(
                    f"backward_mode={config.backward_mode!r} differentiates the renderer twice, which only "
                    f"backend='torch' can; got backend={config.backend!r}. Use backend='torch' on small scenes, or "
                    f"backward_mode='implicit'."
                )
        through = differentiable_steps > 0
        objective = Objective(
            coordinates,
            views.replace(images=images if through else images.detach()),
            theta0 if through else theta0.detach(),
            weights if through else weights.detach(),
            pixel_weights if through else pixel_weights.detach(),
            config.backend,
        )
        solution = minimize(
            self._inner_solver(coordinates, theta0),
            objective,
            objective.theta0 if config.backward_mode == "unroll" else objective.theta0.detach(),
            steps=config.inner_steps,
            differentiable_steps=differentiable_steps,
            stationarity_tolerance=config.stationarity_tolerance,
        )
        if through or not torch.is_grad_enabled():
            return solution.theta, solution, infos
        if config.backward_mode == "first_order":
            return solution.theta + theta0 - theta0.detach(), solution, infos

        def on_backward(solve) -> None:
            for info in infos:
                info.backward = BackwardInfo.of(solve)
                self._warn_if_not_stationary(info)

        if depends_on_cameras(given_views):
            refined = coordinates.decode_cameras(solution.theta.detach(), views).world_to_camera
            at = coordinates.decode(solution.theta.detach())
            images = images_with_camera_graph(images, at, refined, given_views, config.backend)
        theta = implicit_solution(
            theta0,
            weights,
            images,
            pixel_weights,
            solution,
            pcg_iterations=config.pcg_iterations,
            pcg_tolerance=config.pcg_tolerance,
            preconditioner=config.preconditioner,
            on_backward=on_backward,
        )
        return theta, solution, infos

    def _inner_solver(self, coordinates: Coordinates, like: Tensor) -> InnerSolver:
        config = self.config
        if config.inner_solver == "adam":
            rates = [like.new_full((n * d,), config.learning_rate(g)) for g, (n, d) in coordinates.shapes.items()]
            return Adam(torch.cat(rates))
        return GaussNewton(
            pcg_iterations=config.inner_pcg_iterations or config.pcg_iterations,
            pcg_tolerance=config.pcg_tolerance,
            preconditioner=config.preconditioner,
            damping=config.damping,
        )

    def _warn_if_not_stationary(self, info: TTOInfo) -> None:
        limit = self.config.stationarity_warning
        if limit is None:
            return
        worst = torch.where(info.fell_back, 0, info.stationarity).max().item()
        if worst > limit:
            warnings.warn(
                f"The implicit gradient is taken where ‖∇E‖ is still {worst:.2g} of its start (limit {limit:g}): it "
                "may be wrong, even in sign. Raise inner_steps or inner_pcg_iterations, raise the proximal weights, "
                "or set stationarity_warning=None to accept it.",
                StationarityWarning,
                stacklevel=2,
            )

    def _check(self, gaussians: Gaussians, views: Views, pixel_weights: Tensor | None) -> None:
        if gaussians.batch_size != views.batch_size:
            raise ValueError(
                f"Gaussians hold {gaussians.batch_size} scenes but Views {views.batch_size}; give each scene its views."
            )
        if views.images is None:
            raise ValueError("TTOLayer needs images: these Views have images=None.")
        if gaussians.device != views.device:
            raise ValueError(f"Gaussians are on {gaussians.device}, Views on {views.device}; move one with .to(...).")
        images = views.images
        if images.numel():
            low, high = (t.item() for t in torch.aminmax(torch.nan_to_num(images, 0.5)))
            if low < -1e-4 or high > 1 + 1e-4:
                raise ValueError(
                    f"Images must lie in [0, 1], got [{low:.3g}, {high:.3g}]. Undo the network's normalization "
                    "first (images in [-1, 1]: image * 0.5 + 0.5; in [0, 255]: image / 255)."
                )
        B, V, _, H, W = images.shape
        if pixel_weights is not None:
            if tuple(pixel_weights.shape) != (B, V, H, W):
                raise ValueError(f"pixel_weights must have shape {[B, V, H, W]}, got {list(pixel_weights.shape)}.")
            if pixel_weights.numel() and not pixel_weights.min() >= 0:
                raise ValueError(f"pixel_weights must not be negative or NaN, got {pixel_weights.min().item():g}.")


def _outcomes(invalid: Tensor, invalid_views: Tensor, nothing: Tensor, stuck: Tensor) -> tuple[Outcome, ...]:
    """The first that applies to each scene."""
    causes = (Outcome.INVALID_GAUSSIANS, Outcome.INVALID_VIEWS, Outcome.NOTHING_TO_GAIN, Outcome.NO_DESCENT)
    flags = torch.stack([invalid, invalid_views, nothing, stuck], -1).tolist()
    return tuple(causes[row.index(True)] if True in row else Outcome.REFINED for row in flags)
