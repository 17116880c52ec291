"""Robust, sequential, measurable and reversible knowledge edits for large language models: `easyedit-rep COMMAND --help` says more."""

import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from .commands import analyze, edits, mqd, sequence, stats
from .commands import data as data_commands
from .commands.bench import Every, bench, sweep, table
from .commands.data import Columns, DataFormat, Strict, summarise
from .commands.json_file import write_json_file
from .commands.rephrase import rephrase
from .commands.report import report
from .errors import EditError

if TYPE_CHECKING:
    from .datasets.records import Loaded

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
app.command()(bench)
app.command()(sweep)
app.command()(table)
app.add_typer(analyze.app, name="analyze")
app.add_typer(data_commands.app, name="data")
app.command()(rephrase)
app.command()(report)
app.add_typer(edits.app, name="edits")
app.add_typer(mqd.app, name="mqd")
app.add_typer(sequence.app, name="sequence")
app.add_typer(stats.app, name="stats")

Out = Annotated[Path, typer.Option(help="Folder for records.jsonl and robustness.png.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the table's rows to this file.")]
Count = Annotated[int, typer.Option("--n", min=1, help="How many facts to edit.")]
Seed = Annotated[int, typer.Option(help="Which facts are drawn.")]


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit status 2."""
    script = None
    try:
        if sys.argv[1:2] == ["run"] and sys.argv[2:3] not in ([], ["--help"]):
            from .integrations.runner import own_options, prepare

            measured, command = own_options(sys.argv[2:])
            script = prepare(command, measured)
        else:
            app()
    except EditError as error:
        # As text: rich would take what stands in brackets for its own markup.
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error:", "red"), f" {error}"))
        sys.exit(2)
    if script is not None:
        # Out here because click would make the script's Ctrl-C, and we its EditError, something else than Python does.
        from .integrations.runner import start

        start(script)


def _run(
    hparams_file: Path | str, data: "Loaded", n: int, seed: int, out: Path, json_file: Path | None, known: bool, story: bool, title: str
) -> None:
    # Imported here so that --help answers at once.
    from .bench.compare import compare, known_only, summarise, write_jsonl
    from .bench.show import draw, print_whole, table, tell
    from .editor import RobustEditor
    from .hparams import load_hparams

    console = Console()
    requests = data.requests
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EditError(f"--out: cannot make {out} ({error.strerror}): name another folder") from None
    editor = RobustEditor.from_hparams(load_hparams(str(hparams_file)))
    if known:
        requests = known_only(editor, requests, console.print)
    if not requests:
        raise EditError(f"no fact of {data.source} is known to the model: pass --all to edit them anyway")
    chosen = random.Random(seed).sample(requests, min(n, len(requests)))
    records = write_jsonl(compare(editor, chosen), out / "records.jsonl")
    rows = summarise(records)
    if story:
        console.print(tell(editor, _telling(chosen, records)))
    print_whole(console, table(rows, f"{title}, {len(chosen)} facts, each edited alone"))
    draw(rows, out / "robustness.png", f"{title}: {len(chosen)} edits")
    if json_file:
        write_json_file(json_file, {"rows": rows})
    console.print(f"records: {out / 'records.jsonl'}   picture: {out / 'robustness.png'}" + (f"   rows: {json_file}" if json_file else ""))


def _telling(requests, records):
    """The first edit whose pathway mends something, so that there is a story; the table holds all of them."""

    def right(record) -> int:
        return sum(sum(d["exact"] or ()) for k in ("rephrase", "shuffle") for d in record["post"]["robustness"][k].values())

    for base, robust in zip(records[::2], records[1::2], strict=True):
        if base["post"]["robustness"]["success"] == [1.0] and right(robust) > right(base) + 2:
            return requests[base["index"]]
    return requests[0]


@app.command()
def demo(n: Count = 50, seed: Seed = 0, out: Out = Path("results/demo"), json_file: Json = None) -> None:
    """Edit facts of the shipped demo model with ROME and with ROME+REP, and show what each edit survives."""
    from .datasets.records import Reading
    from .demo import FACTS, HPARAMS

    _run(HPARAMS, Reading().load(FACTS), n, seed, out, json_file, known=True, story=True, title="demo-llama")


@app.command()
def edit(
    hparams: Annotated[Path, typer.Option(help="A YAML file under hparams/REP/.")],
    data: Annotated[Path | None, typer.Option(help="A data file; `easyedit-rep data show` says how it is read.")] = None,
    style: DataFormat = None,
    columns: Columns = None,
    strict: Strict = True,
    prompt: Annotated[str | None, typer.Option(help="One fact: the prompt, holding the subject or {}.")] = None,
    subject: Annotated[str | None, typer.Option()] = None,
    target: Annotated[str | None, typer.Option(help="One fact: the new answer.")] = None,
    every: Every = False,
    n: Count = 60,
    seed: Seed = 0,
    out: Out = Path("results/edit"),
    json_file: Json = None,
    save: Annotated[Path | None, typer.Option(help="Keep the edits in this folder; all facts are then in the model at once.")] = None,
) -> None:
    """Edit any model: the facts of a data file, or one fact given by --prompt, --subject and --target.

    Without --save nothing is kept of an edit but what was measured. With it the edits are left in a folder that `load_edits`,
    PeftModel.from_pretrained and `easyedit-rep edits` read.
    """
    one = [option for option, value in (("--prompt", prompt), ("--subject", subject), ("--target", target)) if value is not None]
    if data is not None and one:
        raise EditError(f"both --data and {one[0]}: give a file of facts, or one fact")
    if json_file is not None and (data is None or save is not None):
        raise EditError("--json writes the table of --data without --save, and there is none: leave it out")
    if save is not None:
        from .edits.artefact import check_free

        check_free(save)
    if data is not None and save is not None:
        from .commands.save import edit_and_save
        from .datasets.records import Reading

        loaded = Reading(style, columns, strict).load(data)
        summarise(loaded, Console())
        edit_and_save(hparams, loaded.requests, save, n, seed, known=not every)
        return
    if data is not None:
        from .datasets.records import Reading

        loaded = Reading(style, columns, strict).load(data)
        summarise(loaded, Console())
        _run(hparams, loaded, n, seed, out, json_file, known=not every, story=False, title=hparams.stem)
        return
    if not (prompt and subject and target):
        raise EditError("nothing to edit: give --data FILE, or --prompt, --subject and --target")
    from .bench.show import tell
    from .editor import RobustEditor
    from .hparams import load_hparams
    from .request import EditRequest

    request = EditRequest(prompt, subject, target)
    editor = RobustEditor.from_hparams(load_hparams(str(hparams)))
    Console().print(tell(editor, request))
    if save is not None:
        from .commands.save import keep

        keep(editor, [request], save)


@app.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
def run(
    script: str,
    arguments: Annotated[list[str] | None, typer.Argument(help="The script's own, --help too.")] = None,
    robustness: Annotated[bool, typer.Option("--robustness", help="Measure robustness of every edit, of plain methods too.")] = False,
    corpus: Annotated[str | None, typer.Option(help="With --robustness: text for long contexts.")] = None,
    rephrases: Annotated[str | None, typer.Option(help="With --robustness: JSON of other names by subject.")] = None,
) -> None:
    """Run an EasyEdit script, or your own, unmodified: its hyper-parameter classes load the YAML files under hparams/REP too.

    It runs where you are: for a script that opens files relative to EasyEdit's folder, or to its examples folder, change there first.
    EasyEdit is found by EASYEDIT_HOME, on PYTHONPATH, or around the script. Our own options stand before the script.
    """
    from .integrations.runner import prepare, robustness_options, start

    start(prepare([script, *(arguments or ())], robustness_options(robustness, corpus, rephrases)))


@app.command()
def doctor(
    hparams: Annotated[Path, typer.Option(help="The folder of YAML files whose statistics are looked for.")] = Path("hparams/REP"),
    easyedit: Annotated[bool, typer.Option("--easyedit", help="EasyEdit is required: that it is not there is wrong.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the findings to this file.")] = None,
) -> None:
    """Say what this machine has of what is needed, and whether EasyEdit still is what we rely on; exit status 1 if something is wrong."""
    from .integrations.doctor import examine, show

    findings = list(examine(hparams, easyedit))
    Console().print(show(findings))
    wrong = sum(finding.state == "wrong" for finding in findings)
    if json_file:
        write_json_file(json_file, {"well": not wrong, "findings": [asdict(finding) for finding in findings]})
    Console().print(f"[red]{wrong} wrong[/red], see ✗" if wrong else "[green]all that is needed is well[/green]")
    raise typer.Exit(1 if wrong else 0)
