"""Metrics pages as engines write them, of what a test wants to say."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Histograms:
    """Histograms of one engine, growing as those of a real one."""

    sums: dict[str, tuple[float, int]] = field(default_factory=dict)

    def finish(self, count: int = 10, **means: float) -> str:
        """The page after `count` more requests with these means."""
        for name, mean in means.items():
            total, before = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + mean * count, before + count)
        return "".join(
            f'vllm:{name}_sum{{model_name="m"}} {total}\nvllm:{name}_count{{model_name="m"}} {count}\n'
            for name, (total, count) in self.sums.items()
        )


def page(**values: float) -> str:
    """A page of vLLM gauges."""
    return "".join(
        f'# TYPE vllm:{name} gauge\nvllm:{name}{{model_name="m"}} {value}\n' for name, value in values.items()
    )
