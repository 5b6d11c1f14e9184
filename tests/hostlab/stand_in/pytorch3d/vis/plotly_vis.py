"""Names that VicaSplat imports for drawing cameras, which nothing here draws."""


def __getattr__(name: str) -> None:
    if name.startswith("__"):
        raise AttributeError(name)
