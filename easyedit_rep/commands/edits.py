"""`easyedit-rep edits …` looks at saved edits, tries them on a model, takes some out, and makes other files of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import EditError

if TYPE_CHECKING:
    from ..edits.artefact import Artefact

app = typer.Typer(no_args_is_help=True, help=__doc__)

Folder = Annotated[Path, typer.Argument(help="A folder that `save` wrote.")]
Source = Annotated[str, typer.Argument(help="A folder that `save` wrote, or owner/name on the Hugging Face hub.")]
Model = Annotated[str | None, typer.Option(help="The model: a folder or a hub name; the one recorded if left out.")]
Device = Annotated[str, typer.Option(help="Where the model is put.")]
Force = Annotated[bool, typer.Option("--force", help="Add the change to weights it was not computed for, which may do harm.")]
Out = Annotated[Path, typer.Option(help="The folder to write.")]


@app.command("list")
def list_edits(folders: Annotated[list[Path], typer.Argument(help="Folders of edits, or folders of such.")]) -> None:
    """One line for each saved edit."""
    from ..edits.artefact import TENSORS, read_record
    from .edits_table import listing

    found = [path for folder in folders for path in ([folder] if (folder / TENSORS).exists() else sorted(folder.glob(f"*/{TENSORS}")))]
    found = [path.parent if path.name == TENSORS else path for path in found]
    if not found:
        raise EditError(f"no saved edits in {', '.join(map(str, folders))}: save some with edit.save or `easyedit-rep edit --save`")
    Console().print(listing([(folder, read_record(folder)) for folder in found]))


@app.command()
def show(source: Source, json_out: Annotated[bool, typer.Option("--json", help="The whole record as JSON.")] = False) -> None:
    """Everything a file says: requests, method, options, versions, the weights it belongs to, norms, and what was measured."""
    import json

    from ..edits.artefact import read_record
    from ..edits.hub import found
    from .edits_table import details

    folder = found(source)
    record = read_record(folder)
    if json_out:
        print(json.dumps(record, ensure_ascii=False, indent=1))
        return
    for part in details(folder, record):
        Console().print(part)


@app.command()
def diff(
    source: Source,
    model: Model = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt to ask, instead of the stored ones; may be given again.")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="How many tokens are shown of each answer.")] = 8,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """What the model answers before and after the edits."""
    from ..edits.load import put
    from ..edits.try_out import Asked, answers
    from .edits_table import differences

    artefact = _read(source)
    asked = [Asked("asked", text) for text in prompt] if prompt else Asked.stored(artefact)
    loaded, tok = _model(artefact, model, device)
    before = answers(loaded, tok, artefact, asked, tokens)
    put(loaded, artefact, source, force=force)
    Console().print(differences(asked, before, answers(loaded, tok, artefact, asked, tokens)))


@app.command()
def verify(
    source: Source,
    model: Model = None,
    device: Device = "cpu",
    file_only: Annotated[bool, typer.Option("--file-only", help="Look at the file alone, load no model.")] = False,
) -> None:
    """Whether the file is whole, belongs to the model, gives the weights it was saved with, and leaves the original ones when undone."""
    from ..edits.try_out import check
    from .edits_table import verdicts

    artefact = _read(source)
    findings = check(artefact, source, None if file_only else _model(artefact, model, device)[0])
    Console().print(verdicts(findings))
    raise typer.Exit(0 if all(finding.well for finding in findings) else 1)


@app.command()
def remove(
    folder: Folder,
    places: Annotated[list[int], typer.Argument(help="Which edits, by the numbers of `list`.")],
    out: Annotated[Path | None, typer.Option(help="Write the rest here, and leave the folder as it is.")] = None,
) -> None:
    """Take edits out of a file; the others stay as if those had never been made."""
    from ..edits.artefact import check_free

    if out is not None and out.resolve() != folder.resolve():
        check_free(out)
    artefact = _read(str(folder)).without(*places)
    Console().print(f"{len(artefact.edits)} edits are left in {artefact.write(out or folder)}")


@app.command()
def merge(source: Source, out: Out, model: Model = None, device: Device = "cpu", force: Force = False) -> None:
    """Write the edits into a whole checkpoint for good; pathways go beside it."""
    from ..edits.artefact import check_free
    from ..edits.export import save_model
    from ..edits.load import put

    check_free(out)  # before a model is loaded
    artefact = _read(source)
    loaded, tok = _model(artefact, model, device)
    put(loaded, artefact, source, force=force)
    done = save_model(loaded, out, tok)
    Console().print("loaded again by\n  " + "\n  ".join(done.lines()), soft_wrap=True, markup=False, highlight=False)


@app.command()
def export(
    source: Source,
    out: Out,
    rank: Annotated[int | None, typer.Option(help="1, 8, 16, 32, 64, 128, 256, 320 or 512; the least that is exact if left out.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
) -> None:
    """Write the linear part of the edits as a LoRA adapter, for plain PEFT and vLLM. Pathways are left out: LoRA has no gate."""
    import torch

    from ..edits.lora import export_lora

    if dtype not in ("float32", "float16", "bfloat16"):
        raise EditError(f"--dtype: {dtype!r} is not one of float32, float16, bfloat16")
    done = export_lora(_read(source), out, rank, getattr(torch, dtype))
    Console().print("\n".join(done.lines()), soft_wrap=True, markup=False, highlight=False)


def _read(source: str) -> "Artefact":
    from ..edits.artefact import Artefact
    from ..edits.hub import found

    return Artefact.read(found(source))


def _model(artefact: "Artefact", name: str | None, device: str):
    """(model, tokenizer) to try edits on, in the dtype they were made in."""
    from ..loading import load_model

    name = name or artefact.model["name"]
    if not name:
        raise EditError("the file does not say which model it belongs to: name it with --model")
    dtype = next(iter(artefact.weights.values())).dtype
    return load_model(name, device, fp16=dtype == "float16", bf16=dtype == "bfloat16")
