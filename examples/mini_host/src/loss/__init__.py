from .loss import Loss, LossCfg
from .loss_depth import LossDepth
from .loss_l1 import LossL1
from .loss_mse import LossMse
from .loss_ssim import LossSsim

LOSSES = {
    "mse": LossMse,
    "l1": LossL1,
    "ssim": LossSsim,
    "depth": LossDepth,
}


def get_losses(cfgs: dict[str, LossCfg]) -> list[Loss]:
    unknown = sorted(set(cfgs) - set(LOSSES))
    if unknown:
        raise ValueError(f"Unknown losses: {', '.join(unknown)}; there are {', '.join(LOSSES)}.")
    return [LOSSES[name](cfg) for name, cfg in cfgs.items()]
