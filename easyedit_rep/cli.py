"""Robust, sequential, measurable and reversible knowledge edits for large language models: `easyedit-rep COMMAND --help` says more."""

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
from .commands.json_file import check_json_file, write_json_file
from .commands.rephrase import rephrase
from .commands.report import report
from .errors import EditError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bench.runs import Run
    from .request import EditRequest

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
Seed = Annotated[int, typer.Option(help="Which facts are drawn; also of contexts, queries and training.")]
OwnSeed = Annotated[int | None, typer.Option(help="Which facts are drawn; also of contexts, queries and training. The YAML's if left out.")]


def _refuse(why: str) -> None:
    # As text: rich would take what stands in brackets for its own markup.
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error:", "red"), f" {why}"))
    sys.exit(2)


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
        _refuse(str(error))
    except OSError as error:
        if error.filename is None or script is not None:
            raise
        _refuse(f"{error.filename}: {error.strerror}")
    if script is not None:
        # Out here because click would make the script's Ctrl-C, and we its EditError, something else than Python does.
        from .integrations.runner import start

        start(script)


def _run(run: "Run", out: Path, json_file: Path | None, story: bool, title: str) -> None:
    # Imported here so that --help answers at once.
    from .bench.compare import summarise
    from .bench.journal import read_journal
    from .bench.runs import Editors, OneProcess, execute
    from .bench.show import draw, print_whole, table, tell

    console, editors = Console(), Editors()
    if json_file:
        check_json_file(json_file)
    crew = OneProcess(editors)
    records = read_journal(execute(run, out, crew, name="records"))[1]
    refused = {record["index"]: record["error"] for record in records if "error" in record}
    made = [record for record in records if "error" not in record]
    if not made:
        raise EditError(next(iter(refused.values())))
    rows = summarise(made)
    if story:
        console.print(tell(editors(run), _telling(run, made)))
    print_whole(console, table(rows, f"{title}, {len(made) // len(rows)} facts, each edited alone"))
    for index, error in refused.items():
        console.print(f"refused, fact {index}: {error}", soft_wrap=True, markup=False)
    draw(rows, out / "robustness.png", f"{title}: {len(made) // len(rows)} edits")
    if json_file:
        write_json_file(json_file, {"rows": rows})
    console.print(f"records: {out / 'records.jsonl'}   picture: {out / 'robustness.png'}" + (f"   rows: {json_file}" if json_file else ""))


def _telling(run: "Run", records: "Sequence[dict]") -> "EditRequest":
    """The first edit whose pathway mends something, so that there is a story; the table holds all of them."""

    def right(record) -> int:
        return sum(sum(d["exact"] or ()) for k in ("rephrase", "shuffle") for d in record["post"]["robustness"][k].values())

    loaded = run.reading.load(run.data)
    requests = dict(zip(loaded.indices, loaded.requests, strict=True))
    for base, robust in zip(records[::2], records[1::2], strict=True):
        if base["post"]["robustness"]["success"] == [1.0] and right(robust) > right(base) + 2:
            return requests[base["index"]]
    return requests[records[0]["index"]]


@app.command()
def demo(n: Count = 50, seed: Seed = 0, out: Out = Path("results/demo"), json_file: Json = None) -> None:
    """Edit facts of the shipped demo model with ROME and with ROME+REP, and show what each edit survives."""
    from .bench.runs import Run
    from .demo import FACTS, HPARAMS

    _run(Run(HPARAMS, FACTS, seed, n), out, json_file, story=True, title="demo-llama")


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
    seed: OwnSeed = None,
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
    from .hparams import load_hparams

    values = load_hparams(str(hparams))
    values.rep.seed = seed = values.rep.seed if seed is None else seed
    if data is not None and save is not None:
        from .commands.save import edit_and_save
        from .datasets.records import Reading

        loaded = Reading(style, columns, strict).load(data)
        summarise(loaded, Console())
        edit_and_save(values, loaded.requests, save, n, known=not every)
        return
    if data is not None:
        from .bench.runs import Run
        from .datasets.records import Reading

        reading = Reading(style, columns, strict)
        summarise(reading.load(data), Console())
        _run(Run(hparams, data, seed, n, not every, reading), out, json_file, story=False, title=hparams.stem)
        return
    if not (prompt and subject and target):
        raise EditError("nothing to edit: give --data FILE, or --prompt, --subject and --target")
    from .bench.show import tell
    from .editor import RobustEditor
    from .request import EditRequest

    request = EditRequest(prompt, subject, target)
    editor = RobustEditor.from_hparams(values)
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
