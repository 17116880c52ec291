"""General ability, which edits must leave alone: tasks of lm-evaluation-harness, run on the model as it is now."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from ..errors import EditError


@dataclass(frozen=True)
class AbilityTasks:
    """Which tasks.

    Attributes:
        names: of tasks or groups, as `lm_eval --tasks` takes them.
        folder: with YAMLs of own tasks.
        limit: documents of each task; None for all.
    """

    names: Sequence[str]
    folder: Path | None = None
    limit: int | None = None

    def check(self) -> None:
        """Raise `EditError` where lm-eval is not installed or knows no such task; nothing is downloaded."""
        self.manager  # noqa: B018

    @cached_property
    def manager(self):
        """lm-eval's task manager that knows all of the tasks. Its own thousands take seconds to list, so the folder is looked at first."""
        try:
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise EditError(f"tasks need lm-evaluation-harness ({error}): pip install lm-eval") from None
        own = TaskManager(include_path=str(self.folder), include_defaults=False) if self.folder else None
        if own is not None and set(self.names) <= set(own.all_tasks):
            return own
        every = TaskManager(include_path=str(self.folder) if self.folder else None)
        for name in self.names:
            if name not in every.all_tasks:
                where = f" or in {self.folder}" if self.folder else ", or name the folder of its YAML with --tasks-folder"
                raise EditError(f"lm-eval has no task {name!r}{where}: `lm-eval ls tasks` lists them")
        return every


def measure_ability(model: nn.Module, tok, tasks: AbilityTasks) -> dict[str, float]:
    """{"task/metric": value} of every task, as lm-eval reports it, without the seeding that it does by default.

    Raises:
        EditError: no lm-eval, an unknown task, or a task that cannot be run (its data is not here, say).
    """
    manager = tasks.manager
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    seeds = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed"))
    try:
        found = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tok, batch_size=8),
            tasks=list(tasks.names),
            task_manager=manager,
            limit=tasks.limit,
            bootstrap_iters=0,
            log_samples=False,
            **seeds,
        )
    except (OSError, ValueError, ConnectionError) as error:  # what data sets that are not here end in
        raise EditError(f"lm-eval cannot run {', '.join(tasks.names)}: {' '.join(str(error).split())[:300]}") from error
    return {
        f"{task}/{metric.partition(',')[0]}": float(value)
        for task, metrics in found["results"].items()
        for metric, value in metrics.items()
        if "," in metric and "_stderr" not in metric and isinstance(value, (int, float))
    }
