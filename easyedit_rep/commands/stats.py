"""Covariance statistics: make them for many layers and corpora, and show what there is."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from ..errors import EditError
from .json_file import write_json_file

if TYPE_CHECKING:
    from ..anatomy import Anatomy
    from ..datasets.corpus import Corpus
    from ..hparams import REPHyperParams

app = typer.Typer(no_args_is_help=True, help=__doc__)

Yaml = Annotated[
    Path | None, typer.Option("--hparams", help="A YAML file under hparams/REP/: model, stats_dir, layers, corpus, file names.")
]
ModelName = Annotated[str | None, typer.Option("--model", help="Instead of --hparams: a local folder or a Hugging Face name.")]
Device = Annotated[str | None, typer.Option(help="cpu, or a CUDA index; default: the YAML's, else cpu.")]


class Loaded(NamedTuple):
    """A model to read, and the YAML it was named by."""

    anatomy: "Anatomy"
    tok: object
    hparams: "REPHyperParams | None"


def _load(hparams_file: Path | None, model: str | None, device: str | None) -> Loaded:
    from ..anatomy import Anatomy
    from ..editor import RobustEditor
    from ..hparams import load_hparams
    from ..loading import check_weights, load_model
    from ..memory.tokens import with_offsets

    if (hparams_file is None) == (model is None):
        raise EditError("name one model: --hparams YAML or --model FOLDER")
    if hparams_file is not None:
        hparams = load_hparams(str(hparams_file))
        hparams.device = hparams.device if device is None else device
        editor = RobustEditor.from_hparams(hparams)
        loaded = Loaded(editor.anatomy, editor.tok, hparams)
    else:
        loaded_model, tok = load_model(model, device or "cpu")
        loaded = Loaded(Anatomy(loaded_model), with_offsets(tok), None)
    check_weights(loaded.anatomy.model)
    return loaded


def _layers(text: str | None, loaded: Loaded) -> list[int]:
    """The layers meant by "all", "0-5" or "3,7"."""
    every = range(loaded.anatomy.n_layers)
    if text is None:
        return sorted(loaded.hparams.layers) if loaded.hparams else list(every)
    if text == "all":
        return list(every)
    layers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise EditError(f"--layers: {text!r} is not of the form all, 0-5 or 3,7")
        layers.update(range(int(first), int(last if dash else first) + 1))
    for layer in sorted(layers):
        loaded.anatomy.check_layer(layer, "--layers")
    return sorted(layers)


def _corpora(given: Sequence[str], hparams: "REPHyperParams | None") -> Iterator[tuple[str, "Corpus"]]:
    """(folder name, text) of each --corpus: a file, a known name, or NAME=FILE."""
    from ..datasets.corpus import load_corpus

    if not given:
        if hparams is None:
            raise EditError("no text: give --corpus, a file or one of wikitext, wikitext2, wikipedia")
        yield hparams.mom2_dataset, load_corpus(hparams.rep.corpus or hparams.mom2_dataset)
    seen: set[str] = set()
    for source in given:
        name, _, file = source.partition("=") if "=" in source and not Path(source).exists() else ("", "", source)
        corpus = load_corpus(file)
        name = name or corpus.name
        if name in seen or name != Path(name).name:
            raise EditError(f"--corpus {source}: {name!r} is {'taken' if name in seen else 'no folder name'}, give another as NAME=FILE")
        seen.add(name)
        yield name, corpus


@app.command()
def collect(
    hparams: Yaml = None,
    model: ModelName = None,
    stats_dir: Annotated[Path | None, typer.Option(help="Where the files go; default: the YAML's.")] = None,
    layers: Annotated[str | None, typer.Option(help="all, 0-5 or 3,7; default: the YAML's, else all.")] = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(help="A text file (one paragraph a line), wikitext, wikitext2 or wikipedia, or NAME=FILE. Repeatable."),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of each corpus; default: the YAML's, else 10 × D.")] = None,
    max_length: Annotated[int, typer.Option(min=2, help="Longest text in tokens.")] = 1024,
    samples: Annotated[int | None, typer.Option(min=1, help="mom2_n_samples of the file names; default: the YAML's, else 100000.")] = None,
    dtype: Annotated[str | None, typer.Option(help="mom2_dtype of the files; default: the YAML's, else float32.")] = None,
    seed: Annotated[int | None, typer.Option(help="Which texts are drawn; default: the YAML's, else 0.")] = None,
    device: Device = None,
    max_memory: Annotated[float | None, typer.Option(help="GB that sums may take; default: half of what is free.")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Seconds between two checkpoints.")] = 30.0,
    force: Annotated[bool, typer.Option("--force", help="Also make again what is there.")] = False,
) -> None:
    """Make covariance files in EasyEdit's layout: all layers in one forward of each text. Killed, it goes on where it was."""
    from ..memory.covariance import Sample
    from ..memory.passes import GB, Passes, available_memory

    console = Console(soft_wrap=True, highlight=False)
    if dtype not in (None, "float32", "float64"):
        raise EditError(f"--dtype: {dtype!r} is neither float32 nor float64 (sums over a corpus overflow float16)")
    if max_memory is not None and max_memory <= 0:
        raise EditError(f"--max-memory: {max_memory} is not positive")
    loaded = _load(hparams, model, device)
    h, anatomy = loaded.hparams, loaded.anatomy
    folder = stats_dir or (h and h.stats_dir)
    if not folder:
        raise EditError("no folder for the files: give --stats-dir" + (f" ({hparams} has stats_dir: null)" if h else ""))
    wanted = _layers(layers, loaded)
    size = max(anatomy.key_size(layer) for layer in wanted)
    n_tokens = tokens or (h and h.rep.statistics_tokens) or 10 * size
    draw = seed if seed is not None else (h.rep.seed if h else 0)
    passes = [
        Passes(
            anatomy=anatomy,
            sample=Sample.of(anatomy, loaded.tok, text, n_tokens, max_length, draw),
            layers=wanted,
            stats_dir=Path(folder),
            dataset=name,
            dtype=dtype or (h.mom2_dtype if h else "float32"),
            n_samples=samples or (h.mom2_n_samples if h else 100000),
            max_bytes=int(max_memory * GB) if max_memory is not None else available_memory(anatomy.embedding_device) // 2,
            force=force,
            every=checkpoint_seconds,
        )
        for name, text in _corpora(corpus or (), h)
    ]
    for one in passes:  # whatever can be refused is refused before the first pass
        one.check_disk()
    for one in passes:
        one.run(console.print)
    console.print(f"in {folder}: `easyedit-rep stats show {folder}`")


@app.command()
def show(
    folder: Annotated[Path | None, typer.Argument(help="A stats_dir; default: the YAML's, else ./data/stats.")] = None,
    hparams: Yaml = None,
    model: ModelName = None,
    device: Device = None,
    condition: Annotated[bool, typer.Option("--condition", help="Condition numbers also for D > 2048 (minutes each).")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the rows to this file.")] = None,
) -> None:
    """List statistics: what they are of and were made from, their condition, and, with a model, whether it may use them."""
    from ..memory.listing import as_json, list_checkpoints, list_statistics
    from ..memory.passes import text_of
    from .stats_table import measure, tables

    console = Console(highlight=False)
    loaded = _load(hparams, model, device) if hparams or model else None
    if folder is None:
        folder = Path((loaded and loaded.hparams and loaded.hparams.stats_dir) or "data/stats")
    files = list_statistics(folder)
    if loaded:
        name = str(loaded.anatomy.model.config._name_or_path).rstrip("/").rsplit("/")[-1]
        files = [file for file in files if file.model == name]
    rows = [measure(file, loaded and (loaded.anatomy, loaded.tok), condition) for file in files]
    for part in tables(rows):
        console.print(part, soft_wrap=not isinstance(part, Table))
    if not rows:
        console.print(f"no statistics in {folder}" + (" for this model" if loaded else ""))
    for path, layers, seen, total in list_checkpoints(folder):
        console.print(f"unfinished: {path}, layers {text_of(layers)}, {seen:,} of {total:,} tokens", soft_wrap=True)
    if json_file:
        write_json_file(json_file, {"files": [as_json(row.file, **row.numbers()) for row in rows]})
