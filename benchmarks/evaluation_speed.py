"""Asking one record's robustness questions: `predict`, and one forward with full logits for each question.

    python benchmarks/evaluation_speed.py ../shared/bench-llama --data ../shared/data/rep/valid.counterfact.json \\
        --corpus ../shared/data/wikitext2/valid.txt

The questions are what `evaluate` asks of a record: the prompt, 10 rephrased and 10 shuffled subjects, 10 long contexts, paraphrases,
neighbours. The two ways alternate in one process, on several records; seconds are per record, by the median of `--rounds`. All answers are
compared.
"""

import json
import platform
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.datasets.records import load_records
from easyedit_rep.evaluation.predict import Prediction, predict
from easyedit_rep.loading import load_model
from easyedit_rep.memory.tokens import continuation
from easyedit_rep.queries import QueryMaker
from easyedit_rep.request import EditRequest


def questions(request: EditRequest, make: QueryMaker) -> dict[str, list[tuple[str, str]]]:
    """{"short" | "long": (text, target) of every question `evaluate` asks}."""
    prompts = make(request).prompts(request.located)
    short = [(request.text, request.target_new), *((text, request.target_new) for text in request.rephrase_prompts)]
    short += [(request.text, request.ground_truth)] if request.ground_truth else []
    for kind in ("rephrase", "shuffle"):
        short += [(p.text, request.target_new) for half in prompts[kind].values() for p in half]
    short += [(q.prompt, q.answer) for group in request.locality.values() for q in group]
    long = [(p.text, request.target_new) for half in prompts["long"].values() for p in half]
    return {"short": short, "long": long}


def one_by_one(anatomy: Anatomy, tok, asked: list[tuple[str, str]]) -> list[Prediction]:
    out = []
    for text, target in asked:
        before, ids = continuation(tok, text, target)
        with torch.no_grad():
            logits = anatomy.model(input_ids=torch.tensor([before + ids[:-1]], device=anatomy.embedding_device), use_cache=False).logits
        out.append(Prediction(tuple(logits[0, len(before) - 1 :].argmax(-1).tolist()), tuple(ids)))
    return out


def together(anatomy: Anatomy, tok, asked: list[tuple[str, str]]) -> list[Prediction]:
    return predict(anatomy, tok, [text for text, _ in asked], [target for _, target in asked])


WAYS = {"one forward each": one_by_one, "predict": together}


def main(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    data: Annotated[Path, typer.Option()],
    corpus: Annotated[Path, typer.Option(help="Text of long contexts.")],
    records: Annotated[int, typer.Option(help="How many records, the first of the file.")] = 1,
    tokens: Annotated[int, typer.Option(help="Length of a long context.")] = 512,
    rounds: Annotated[int, typer.Option()] = 5,
    device: Annotated[str, typer.Option()] = "cuda" if torch.cuda.is_available() else "cpu",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    loaded, tok = load_model(str(model), device)
    anatomy = Anatomy(loaded)
    make = QueryMaker(tok, {}, load_corpus(str(corpus)), 10, 10, tokens, anatomy.max_positions, seed=0)
    sets = [questions(request, make) for request in load_records(data)[:records]]
    seconds: dict[str, dict[str, list[float]]] = {kind: {way: [] for way in WAYS} for kind in sets[0]}
    different = 0
    for round_ in range(rounds + 1):  # the first is not counted
        for kind, taken in seconds.items():
            answers = {}
            for way, ask in WAYS.items():
                _wait(anatomy)
                start = time.perf_counter()
                answers[way] = [ask(anatomy, tok, asked[kind]) for asked in sets]
                _wait(anatomy)
                if round_:
                    taken[way].append((time.perf_counter() - start) / len(sets))
            different += answers["predict"] != answers["one forward each"]
    seconds["all"] = {way: [sum(parts) for parts in zip(*(taken[way] for taken in seconds.values()), strict=True)] for way in WAYS}
    show(seconds, sets, anatomy, different, json_file)


def _wait(anatomy: Anatomy) -> None:
    if anatomy.embedding_device.type == "cuda":
        torch.cuda.synchronize(anatomy.embedding_device)


def show(seconds: dict, sets: list[dict], anatomy: Anatomy, different: int, json_file: Path | None) -> None:
    cpu = f"{platform.processor() or 'CPU'}, {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name(anatomy.embedding_device) if anatomy.embedding_device.type == "cuda" else cpu
    table = Table(title=f"questions of one record, {type(anatomy.model).__name__}, {name}")
    for head in ("questions", *WAYS, "× faster"):
        table.add_column(head, justify="right" if head != "questions" else "left")
    medians = {kind: {way: statistics.median(taken) for way, taken in ways.items()} for kind, ways in seconds.items()}
    for kind, taken in medians.items():
        count = sum(len(rows) for asked in sets for name, rows in asked.items() if kind in (name, "all")) / len(sets)
        ratio = taken["one forward each"] / taken["predict"]
        table.add_row(f"{kind}, {count:.0f}", *(f"{taken[way]:.3f} s" for way in WAYS), f"{ratio:.1f}")
    Console().print(table)
    Console().print("all answers are the same" if not different else f"[red]answers differ in {different} rounds[/red]")
    if json_file:
        json_file.write_text(json.dumps({"device": name, "seconds": seconds, "different": different}) + "\n")


if __name__ == "__main__":
    typer.run(main)
