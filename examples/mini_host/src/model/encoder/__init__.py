from torch import nn

from .encoder import Encoder
from .encoder_planesweep import EncoderPlaneSweep, EncoderPlaneSweepCfg

ENCODERS = {
    "planesweep": (EncoderPlaneSweep, None),
}

EncoderCfg = EncoderPlaneSweepCfg


def get_encoder(cfg: EncoderCfg) -> tuple[Encoder, nn.Module | None]:
    """The encoder, and its visualizer if it has one."""
    encoder_class, visualizer_class = ENCODERS[cfg.name]
    encoder = encoder_class(cfg)
    return encoder, None if visualizer_class is None else visualizer_class(encoder)
