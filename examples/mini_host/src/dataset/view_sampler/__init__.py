from ..types import Stage
from .view_sampler import ViewSampler
from .view_sampler_bounded import ViewSamplerBounded, ViewSamplerBoundedCfg
from .view_sampler_evaluation import ViewSamplerEvaluation, ViewSamplerEvaluationCfg

VIEW_SAMPLERS = {
    "bounded": ViewSamplerBounded,
    "evaluation": ViewSamplerEvaluation,
}

ViewSamplerCfg = ViewSamplerBoundedCfg | ViewSamplerEvaluationCfg


def get_view_sampler(cfg: ViewSamplerCfg, stage: Stage) -> ViewSampler:
    return VIEW_SAMPLERS[cfg.name](cfg, stage)
