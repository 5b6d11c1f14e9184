"""The differentiable optimization layer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diff3r_plugin.argument_types import require_instance
from diff3r_plugin.backward import BackwardMode, FirstOrder, Implicit, InnerProblem, Stepwise, Truncated, Unroll
from diff3r_plugin.camera_gradients import carried_along
from diff3r_plugin.config import TTOConfig
from diff3r_plugin.containment import (
    choose,
    finite_scenes,
    like,
    ordinary,
    ordinary_views,
    stand_in,
    stand_in_views,
    with_graph,
)
from diff3r_plugin.coordinates import Coordinates
from diff3r_plugin.gaussians import Gaussians
from diff3r_plugin.info import Outcome, TTOInfo, warn_of_fallbacks
from diff3r_plugin.linalg import PCGReason
from diff3r_plugin.optimize import Adam, GaussNewton, InnerSolution, InnerSolver
from diff3r_plugin.proximal import ProximalWeights
from diff3r_plugin.size_bound import bounded_sizes
from diff3r_plugin.validation import check_inputs, require_something_to_refine
from diff3r_plugin.views import Views

CAUSES = (
    Outcome.INVALID_GAUSSIANS,
    Outcome.INVALID_VIEWS,
    Outcome.NOTHING_TO_GAIN,
    Outcome.SOLVE_FAILED,
    Outcome.NO_DESCENT,
)
"""Why a scene keeps its initial Gaussians; the first that applies is told."""


class TTOLayer(nn.Module):
    """Refine Gaussians on their context views, differentiably (Diff3R, arXiv 2604.01030).

    For each scene it minimizes E(θ) = ½ Σ w r² + ½ Σ Λ (θ − θ0)², r = rendering − image, from the predicted
    θ0, and returns the scene at the minimizer. Gradients reach the tensors of ``gaussians`` and ``weights`` (and, if
    they ask for it, ``views.images`` and ``pixel_weights``) by the backward mode. It holds no parameters.

    Never returns a scene of higher energy than the one it was given; a scene with which something is wrong (a NaN, a
    covariance that is not positive) comes back as it was, is reported in ``info.outcomes``, and does not disturb the
    others. Works under ``no_grad``, ``inference_mode`` and autocast (computes in float32, or float64 for such inputs).

    Solver and backward mode are objects that own their settings. :class:`TTOConfig` names the same things in one flat
    list, for command lines; give either, not both.

    Args:
        config: All settings by name; by default those of :class:`TTOConfig`.
        solver: :class:`GaussNewton` or :class:`Adam`.
        backward: :class:`Implicit`, :class:`Stepwise`, :class:`Unroll`, :class:`Truncated` or :class:`FirstOrder`.
        groups: Optimized groups; see :class:`TTOConfig`.
        backend: "auto", "gsplat", "native" or "torch".
        validate: Look for input in other conventions at every call (:func:`diff3r_plugin.validation.check_inputs`).
        warn_of_fallbacks: Warn (:class:`FallbackWarning`) of scenes that keep their prediction because something is
            wrong with them.

    Raises:
        ValueError: if settings are given both ways, or one of them is out of range.

    Example:
        >>> import torch
        >>> from diff3r_plugin import Gaussians, TTOConfig, TTOLayer, Views
        >>> means, covariances = torch.tensor([[[0.0, 0, 2]]]), 0.01 * torch.eye(3)[None, None]
        >>> g = Gaussians(means, covariances, torch.full((1, 1), 0.5), torch.ones(1, 1, 3, 1))
        >>> K = torch.tensor([[[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]]])
        >>> views = Views(torch.eye(4)[None, None], K, torch.rand(1, 1, 3, 16, 16))
        >>> refined, info = TTOLayer(TTOConfig(inner_steps=3))(g, views, weights=0.1)
        >>> bool((info.energy[-1] <= info.energy[0]).all())
        True
        >>> from diff3r_plugin import GaussNewton, Stepwise
        >>> layer = TTOLayer(solver=GaussNewton(steps=3), backward=Stepwise(pcg_iterations=6))
    """

    def __init__(
        self,
        config: TTOConfig | None = None,
        *,
        solver: InnerSolver | None = None,
        backward: BackwardMode | None = None,
        groups: Sequence[str] | None = None,
        backend: str | None = None,
        validate: bool = True,
        warn_of_fallbacks: bool = True,
    ) -> None:
        super().__init__()
        if config is not None:
            require_instance("config", config, TTOConfig)
        for name, value, example, key in (
            ("solver", solver, "Adam(steps=8)", "inner_solver"),
            ("backward", backward, "Implicit()", "backward_mode"),
        ):
            if isinstance(value, (str, type)):
                raise TypeError(
                    f"{name} must be an object with its settings, like {example}, got {value!r}. By name it is "
                    f"TTOConfig({key}=...)."
                )
        given = {"solver": solver, "backward": backward, "groups": groups, "backend": backend}
        named = [name for name, value in given.items() if value is not None]
        if config is not None and named:
            raise ValueError(
                f"TTOLayer got config= and {', '.join(f'{name}=' for name in named)}: give settings in one way, by "
                "a TTOConfig or by objects."
            )
        if config is None:  # which also checks the names
            chosen = {name: value for name, value in (("groups", groups), ("backend", backend)) if value is not None}
            config = TTOConfig(**chosen)  # type: ignore[arg-type]
        self.solver = solver or _solver(config)
        self.backward = backward or _backward(config)
        self.groups, self.backend, self.largest_size = config.groups, config.backend, config.largest_size
        self.validate, self.warn_of_fallbacks = validate, warn_of_fallbacks

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
            TypeError: for arguments that are something else.
            ValueError: for shapes or devices that disagree, an empty batch, values in another convention (see
                ``validate``), weights that are not positive, or a backend that cannot do what the backward mode needs.
        """
        require_something_to_refine(gaussians, views, pixel_weights)
        if self.validate:
            check_inputs(gaussians, views, pixel_weights)
        weights = ProximalWeights.of(weights)
        # Validation and test loops run in inference mode, whose tensors cannot take part in any derivative.
        inference = torch.is_inference_mode_enabled()
        with torch.inference_mode(False), torch.autocast(gaussians.device.type, enabled=False):
            grad = torch.is_grad_enabled() and not inference
            with torch.set_grad_enabled(grad):
                refined, info = self._refine(gaussians, views, weights, pixel_weights)
        if self.warn_of_fallbacks:
            warn_of_fallbacks(info.outcomes)
        return refined, info

    def _refine(
        self, given: Gaussians, views: Views, weights: ProximalWeights, pixel_weights: Tensor | None
    ) -> tuple[Gaussians, TTOInfo]:
        started = time.perf_counter()
        dtype = torch.promote_types(given.dtype, torch.float32)
        asked, gaussians = views, given.map(lambda t: ordinary(t).to(dtype))
        given_views = with_graph(views, dtype)
        views, images = ordinary_views(views, dtype)

        unusable_views = ~finite_scenes(images, views.world_to_camera, views.intrinsics)
        coordinates = Coordinates(gaussians, views, self.groups)
        unusable = ~coordinates.valid.all(1)
        broken = unusable | unusable_views
        if broken.any():
            gaussians_in, views = stand_in(gaussians, broken), stand_in_views(views, broken)
            given_views = stand_in_views(given_views, broken)
            images = torch.where(like(broken, images), 0.0, images)
            coordinates = Coordinates(gaussians_in, views, self.groups)
        else:
            gaussians_in = gaussians

        theta0 = coordinates.encode(gaussians_in)
        flat_weights = weights.flatten(coordinates, theta0)
        if pixel_weights is None:
            pixel_weights = torch.ones_like(images[:, :, 0])
        else:
            pixel_weights = ordinary(pixel_weights).to(dtype)
        problem = InnerProblem(coordinates, given_views, theta0, flat_weights, images, pixel_weights, self.backend)
        # Without gradients every mode is the bare solver.
        solved = (self.backward if torch.is_grad_enabled() else FirstOrder()).solve(problem, self.solver)
        theta, solution = solved.theta, solved.solution

        stuck = (solution.accepted_steps == 0) & (self.solver.steps > 0)
        # Where the energy overflows, the gradient may come out as zero all the same.
        nothing = stuck & solution.stationary_start & solution.energy[0].isfinite()
        unsolved = stuck & solution.energy[0].isfinite() & _broke_down(solution.solves.reason_codes)
        refined = coordinates.apply(theta, gaussians_in)
        if self.largest_size is not None:
            refined = bounded_sizes(refined, gaussians_in, views, self.largest_size)
        # A stationary start is its own solution, and the theorem holds there; a failed descent has no gradient of
        # its own, so what was given goes out as it came in.
        given_back = broken | (stuck & ~nothing)
        flags, codes = _on_the_host((unusable, unusable_views, nothing, unsolved, stuck, given_back), solution)
        if any(row[-1] for row in flags):
            refined = choose(given_back, gaussians, refined)
        return refined.map(lambda t: t.to(given.dtype)), TTOInfo(
            energy=solution.energy,
            stationarity=solution.stationarity,
            accepted_steps=solution.accepted_steps,
            pcg_iterations=solution.solves.iterations,
            pcg_relative_residual=solution.solves.relative_residual,
            pcg_reasons=tuple(tuple(PCGReason)[code] if code >= 0 else None for code in codes),
            outcomes=tuple(_outcome(row[:-1]) for row in flags),
            views=_refined_views(asked, coordinates, theta, views, given_back),
            exposure=coordinates.decode_exposure(theta.detach()) if "exposure" in coordinates.shapes else None,
            seconds=time.perf_counter() - started,
            record=solved.record,
        )


def _refined_views(
    asked: Views, coordinates: Coordinates, theta: Float[Tensor, "B P"], views: Views, kept: Bool[Tensor, " B"]
) -> Views:
    """The views that belong to the scenes at θ; those of scenes that are given back stay as they were."""
    if "poses" not in coordinates.shapes:
        return asked
    given = ordinary(asked.world_to_camera)
    start = torch.where(like(kept, given), views.world_to_camera, given.to(views.dtype))
    moved = carried_along(coordinates.decode_cameras(theta, views).world_to_camera, start).to(given.dtype)
    return asked.replace(world_to_camera=torch.where(like(kept, given), given, moved))


def _broke_down(reason_codes: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Scenes whose last linear solve ended for a reason that more damping should have cured."""
    reasons = tuple(PCGReason)
    curved, broken = (reasons.index(r) for r in (PCGReason.NON_POSITIVE_CURVATURE, PCGReason.NON_FINITE))
    return (reason_codes == curved) | (reason_codes == broken)


def _on_the_host(flags: Sequence[Bool[Tensor, " B"]], solution: InnerSolution) -> tuple[list[list[bool]], list[int]]:
    """A row of flags and the code of the last linear solve for each scene; one transfer for all of them."""
    rows = torch.stack([*(flag.long() for flag in flags), solution.solves.reason_codes], -1).tolist()
    return [[bool(flag) for flag in row[:-1]] for row in rows], [row[-1] for row in rows]


def _outcome(flags: Sequence[bool]) -> Outcome:
    """The first that applies to a scene."""
    return CAUSES[flags.index(True)] if True in flags else Outcome.REFINED


def _solver(config: TTOConfig) -> InnerSolver:
    """The solver that the settings name."""
    if config.inner_solver == "adam":
        return Adam(config.inner_steps, config.learning_rates, config.stationarity_tolerance)
    return GaussNewton(
        steps=config.inner_steps,
        pcg_iterations=config.inner_pcg_iterations or config.pcg_iterations,
        pcg_tolerance=config.pcg_tolerance,
        preconditioner=config.preconditioner,
        damping=config.damping,
        stationarity_tolerance=config.stationarity_tolerance,
    )


def _backward(config: TTOConfig) -> BackwardMode:
    """The backward mode that the settings name."""
    pcg = {"pcg_tolerance": config.pcg_tolerance, "preconditioner": config.preconditioner}
    match config.backward_mode:
        case "implicit":
            return Implicit(config.pcg_iterations, stationarity_warning=config.stationarity_warning, **pcg)  # type: ignore[arg-type]
        case "stepwise":
            return Stepwise(config.inner_pcg_iterations or config.pcg_iterations, **pcg)  # type: ignore[arg-type]
        case "unroll":
            return Unroll()
        case "truncated":
            return Truncated(config.truncated_steps)
        case "first_order":
            return FirstOrder()
