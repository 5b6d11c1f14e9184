"""The composed configuration, for code that is far from `main`."""

from omegaconf import DictConfig

_cfg: DictConfig | None = None


def get_cfg() -> DictConfig:
    if _cfg is None:
        raise RuntimeError("The configuration is not set yet; call set_cfg first.")
    return _cfg


def set_cfg(cfg: DictConfig) -> None:
    global _cfg
    _cfg = cfg
