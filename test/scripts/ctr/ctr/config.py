from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelConfig:
    vocab: int = 60
    width: int = 24
    heads: int = 3
    depth: int = 2
    length: int = 10


@dataclass(frozen=True)
class TrainConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    steps: int = 3
    batch: int = 4
    lr: float = 3e-3
    seed: int = 1234
