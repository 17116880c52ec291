"""What a closed-form gate lets in: names it was not made from, and everything else.

    python benchmarks/gates.py --hparams hparams/REP/ROME/bench-llama.yaml --data ../shared/data/rep/valid.counterfact.json \\
        --set closed.margin=0.6,closed.margin_around=0.7 --set training.stray_words=0

Gates alone, of a method with pathways in one layer, and no edit is made: in the lowest edited layer what they are made from does not depend
on it, and in one above hardly. The YAML's corpus is cut in two: gates are made from its first part and asked at every token of the rest; or
with `--text` they are made from all of it, as an edit's are, and asked at another text's. A token of the subject's name, in full, counts
for no fire of its own gate. The other columns: percent of the facts' queries at one of whose name's tokens, in the edited prompt, the gate
opens; and of their locality prompts at any of whose tokens it does, and should not. Settings of `closed` alone, margins before all, cost a
fraction of the first row: what gates of one layer are made from is read once for those that stand side by side.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Annotated

import pandas
import torch
import typer
import yaml
from rich.console import Console
from torch import Tensor
from tqdm.auto import tqdm

from easyedit_rep import EditError, EditRequest, RobustEditor
from easyedit_rep.bench.compare import known_only
from easyedit_rep.bench.runs import draw
from easyedit_rep.commands.bench import print_cells
from easyedit_rep.datasets.records import load_records
from easyedit_rep.evaluation.false_fires import mentions, refuse_own_text
from easyedit_rep.hparams import REPHyperParams, load_hparams
from easyedit_rep.memory.keys import read_token_keys
from easyedit_rep.memory.tokens import locate
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.closed import ClosedForm
from easyedit_rep.pathway.examples import Examples, read_training_keys
from easyedit_rep.pathway.ordinary import read_text
from easyedit_rep.pathway.solve import solve_layer
from easyedit_rep.pathway.training import TrainingKeys
from easyedit_rep.queries.neighbours import Neighbours
from easyedit_rep.rep_options import RepOptions
from easyedit_rep.unedited import PARAGRAPH


def changed(rep: RepOptions, changes: str) -> RepOptions:
    """`rep` with "block.option=value" or "option=value", several separated by commas.

    Raises:
        EditError: there is no such option.
    """
    for change in filter(None, changes.split(",")):
        path, _, value = change.partition("=")
        *block, name = path.split(".")
        new = {name: yaml.safe_load(value)}
        try:
            rep = replace(rep, **{block[0]: replace(getattr(rep, block[0]), **new)} if block else new)
        except (AttributeError, TypeError):
            raise EditError(f"--set {change}: rep has no option {path}") from None
    return rep


def read_for(h: REPHyperParams) -> tuple[RepOptions, list[int]]:
    """What the keys that gates are made from depend on: all of `rep` but how they are solved, and the layer, which `rep.closed` may say."""
    return replace(h.rep, closed=ClosedForm()), h.pathway_layers


@dataclass
class Row:
    """What the gates made with `closed` let in: `fires`, (n,) of the text's tokens, and by kind of name whether a gate opens at each."""

    closed: ClosedForm
    fires: Tensor
    opened: defaultdict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def cells(self) -> dict[str, str]:
        """Of the table."""
        shares = {name: f"{100 * sum(each) / max(1, len(each)):.1f}" for name, each in self.opened.items()}
        return {"tokens": str(len(self.fires)), "fires in 10,000": f"{1e4 * self.fires.float().mean().item():.2f}", **shares}


def training_keys(editor: RobustEditor, requests: Sequence[EditRequest]) -> Iterator[TrainingKeys]:
    """What the gate of each of `requests` is made from, as if they were edited one after another."""
    rep, memory, (layer,) = editor.hparams.rep, editor.memory, editor.hparams.pathway_layers
    ordinary, text, occurrences = editor.unedited.negatives(rep.training, "closed", [layer])
    unused = torch.zeros(1, editor.anatomy.key_size(layer))  # k*, which only pathways of the paper's kind are trained towards
    for i, request in enumerate(requests):
        queries = editor.queries(request)
        beside = Neighbours(requests[:i], [], editor.queries, rep.training.neighbours, rep.seed).prompts(request, queries)
        example = Examples.of(memory, request, queries, rep.training, text, rep.seed, occurrences, beside)
        yield from read_training_keys(memory, layer, [example], unused, rep.training, ordinary[layer])


def asked_keys(editor: RobustEditor, request: EditRequest) -> Iterator[tuple[str, list[Tensor]]]:
    """Kinds of what `request`'s gate is asked at, each with the (n, D) keys of every name's tokens or of every locality prompt's."""
    tok, (layer,), queries = editor.tok, editor.hparams.pathway_layers, editor.queries(request)
    for kind in ("rephrase", "shuffle"):
        for domain in ("in_domain", "out_of_domain"):
            names = [locate(tok, request.located.with_subject(name)) for name in getattr(getattr(queries, kind), domain)]
            keys = read_token_keys(editor.anatomy, [p.ids for p in names], [layer])[layer] if names else ()
            spans = [row[p.first : p.last + 1] for row, p in zip(keys, names, strict=True)]
            yield f"{kind} {domain.replace('_domain', '').replace('_', '-')}", spans
    asked = [tok(question.prompt)["input_ids"] for group in request.locality.values() for question in group]
    yield "locality", list(read_token_keys(editor.anatomy, asked, [layer])[layer]) if asked else []


@torch.no_grad()
def measured(editor: RobustEditor, options: Sequence[ClosedForm], requests: Sequence[EditRequest], held_out: Sequence[str]) -> list[Row]:
    """A row for each of `options`, of gates made from the same keys."""
    tok, memory, (layer,) = editor.tok, editor.memory, editor.hparams.pathway_layers
    lines = [tok(text, truncation=True, max_length=PARAGRAPH)["input_ids"] for text in held_out]
    text = read_text(editor.anatomy, lines, [layer])[layer].float()
    ids = torch.tensor([token for line in lines for token in line])
    moment = memory.covariances[layer].moment.float() if layer in memory.covariances else None
    shape = RepConfig(target_modules=["x"], inference_mode=True, kind="closed", detectors=editor.hparams.rep.pathway.detectors)
    rows = [Row(closed, torch.zeros(len(text), dtype=torch.bool)) for closed in options]
    for request, keys in zip(tqdm(requests, desc="gates", unit="fact"), training_keys(editor, requests), strict=True):
        named, asked = mentions(tok, ids, request.subject), list(asked_keys(editor, request))
        for row in rows:
            module = RepLayer(editor.anatomy.projection(layer), "0", shape)
            solve_layer(module, keys, "0", row.closed, moment)
            row.fires |= (module.gate_logit(text, "0").squeeze(-1) > 0) & ~named
            for kind, spans in asked:
                row.opened[kind] += [bool((module.gate_logit(span, "0") > 0).any()) for span in spans]
    return rows


def main(
    hparams: Annotated[Path, typer.Option(help="A YAML under hparams/REP with closed-form pathways in one layer.")],
    data: Annotated[Path, typer.Option(help="Facts, of which known ones are taken.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="block.option=value,…; a row for each, after the YAML's own.")] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Facts drawn by the seed; all if left out.")] = None,
    seed: Annotated[int, typer.Option(help="Which facts are drawn.")] = 0,
    share: Annotated[
        float | None, typer.Option(min=0.1, max=0.9, help="Of the corpus's lines, that gates are made from without --text (0.65).")
    ] = None,
    text: Annotated[Path | None, typer.Option(help="Another text to ask them at, one paragraph a line.")] = None,
    style: Annotated[str, typer.Option("--format", help="terminal, markdown, latex or csv.")] = "terminal",
) -> None:
    """Make the facts' gates with every setting, and show what they let in."""
    h = load_hparams(str(hparams))
    if h.rep.pathway.kind != "closed" or len(h.pathway_layers) != 1 or not h.rep.corpus:
        raise EditError(f"{hparams}: wants rep.pathway.kind: closed, a text file as rep.corpus, and one layer")
    if text:
        refuse_own_text(text, h.rep.corpus)
    if text and share:
        raise EditError(f"--share {share} cuts the corpus for want of another text, and --text is one: leave one of them out")
    lines = Path(h.rep.corpus).read_text(encoding="utf-8").splitlines(keepends=True)
    cut = len(lines) if text else round((share or 0.65) * len(lines))
    asked = text.read_text(encoding="utf-8").splitlines() if text else lines[cut:]
    held_out = [line.strip() for line in asked if line.strip() and not line.strip().startswith("=")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text.txt")
        path.write_text("".join(lines[:cut]), encoding="utf-8")
        h.stats_dir, h.rep = None, replace(h.rep, corpus=str(path))
        editor = RobustEditor.from_hparams(h)
        known = known_only(editor, load_records(data), Console(stderr=True).print)
        requests = draw(known, seed, n)
        table, changes = [], ["", *(settings or ())]
        twins = [type(h)(**{**vars(h), "rep": changed(h.rep, each)}) for each in changes]
        for _, same in groupby(zip(changes, twins, strict=True), lambda pair: read_for(pair[1])):
            names, alike = zip(*same, strict=True)
            twin = RobustEditor(alike[0], editor.model, editor.tok)
            rows = measured(twin, [each.rep.closed for each in alike], requests, held_out)
            table += [{"method": name or hparams.name, **row.cells()} for name, row in zip(names, rows, strict=True)]
        print_cells(pandas.DataFrame(table), style)


if __name__ == "__main__":
    typer.run(main)
