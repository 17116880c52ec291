"""Known facts of a file that given draws leave out: to ask once, when the drawn ones have been looked at often.

    python benchmarks/held_back.py --hparams hparams/REP/ROME/bench-llama.yaml \\
        --data ../shared/data/rep/test.counterfact_llama2-7b.json --seeds 0,1,2 --n 100 --out results/held_back.json

The draws are those of `easyedit-rep bench` and the other benchmarks. Each of these also leaves out what it would draw with a smaller N.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from easyedit_rep import EditError
from easyedit_rep.bench.runs import Editors, Run, choose, draw
from easyedit_rep.commands.bench import parse_numbers
from easyedit_rep.datasets.sources import read_table


def main(
    hparams: Annotated[Path, typer.Option(help="A YAML of the model that must know the facts.")],
    data: Annotated[Path, typer.Option(help="A file of facts, one a record.")],
    seeds: Annotated[str, typer.Option(help="Of the draws, separated by commas.")] = "0,1,2",
    n: Annotated[int, typer.Option(min=1, help="Facts in each draw.")] = 100,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("results/held_back.json"),
) -> None:
    """Write the records of DATA that the model knows and none of the draws holds."""
    console = Console(stderr=True)
    editor = Editors()(Run(hparams, data, 0))
    known = sorted(i for i, _ in choose(Run(hparams, data, 0), editor, console.print))
    drawn = {i for seed in parse_numbers("--seeds", seeds) for i in draw(known, seed, n)}
    records = read_table(data).rows
    left = [records[i] for i in known if i not in drawn]
    if not left:
        raise EditError(f"the draws hold all {len(known)} known facts of {data}: draw fewer with --n")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(left, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    console.print(f"{len(left)} of {len(known)} known facts are in none of the draws: {out}")


if __name__ == "__main__":
    typer.run(main)
