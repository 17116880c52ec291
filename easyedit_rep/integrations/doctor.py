"""`easyedit-rep doctor`: what this machine has of what is needed, and whether EasyEdit still is what we rely on."""

import configparser
import contextlib
import importlib
import importlib.util
import io
import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..errors import EditError
from ..files import NOT_AN_ARCHIVE
from ..hparams import REPHyperParams, load_hparams
from ..memory.statistics import statistics_file
from .contract import EDITOR_POINTS, SCRIPT_POINTS, NoEasyEdit, Point
from .home import commit_of, find_easyedit, importable

PACKAGE = "easyedit_rep"
MODULES = {"hydra-core": "hydra", "opencv-python-headless": "cv2", "sentence-transformers": "sentence_transformers"}
"""Distributions whose module has another name."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: "ok"; "note", which is worth knowing and harms nothing; or "wrong", which makes the exit code 1.
        facts: the same for machines.
    """

    section: str
    name: str
    state: str
    detail: str
    facts: dict = field(default_factory=dict)


def examine(hparams: Path, easyedit_required: bool = False) -> Iterator[Finding]:
    """Everything, section by section. No model is loaded and nothing is written.

    Args:
        hparams: a folder of YAML files, whose statistics are looked for.
        easyedit_required: whether it is wrong that there is no EasyEdit.
    """
    try:
        python, needed, extra = declared()
    except EditError as error:
        yield Finding("Packages", PACKAGE, "wrong", str(error))
        python, needed, extra = SpecifierSet(), [], []
    yield from packages(python, needed)
    yield from machine()
    yield from easyedit(extra, easyedit_required)
    yield from statistics(hparams)


def declared() -> tuple[SpecifierSet, list[Requirement], list[Requirement]]:
    """The range of Python, what this package needs, and what EasyEdit's import needs: as setup.cfg or the installation says."""
    checkout = Path(__file__).parents[2] / "setup.cfg"
    if checkout.is_file():
        config = configparser.ConfigParser()
        config.read(checkout, encoding="utf-8")
        if config.get("metadata", "name", fallback=None) == PACKAGE:
            lines = (config["options"]["install_requires"], config["options.extras_require"]["easyedit"])
            needed, extra = ([Requirement(line) for line in text.split("\n") if line] for text in lines)
            return SpecifierSet(config["options"]["python_requires"]), needed, extra
    try:
        found = [Requirement(line) for line in metadata.requires(PACKAGE) or []]
        python = SpecifierSet(metadata.metadata(PACKAGE)["Requires-Python"])
    except metadata.PackageNotFoundError:
        raise EditError("neither installed nor in its checkout, so the supported versions are unknown: pip install it") from None
    needed = [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]
    return python, needed, [r for r in found if r not in needed and r.marker.evaluate({"extra": "easyedit"})]


def packages(python: SpecifierSet, needed: Sequence[Requirement]) -> Iterator[Finding]:
    """Python and the packages this one needs, against the supported ranges."""
    yield _ranged("Python", platform.python_version(), python)
    for requirement in needed:
        try:
            yield _ranged(requirement.name, metadata.version(requirement.name), requirement.specifier)
        except metadata.PackageNotFoundError:
            yield Finding("Packages", requirement.name, "wrong", f"missing: pip install '{requirement}'")


def _ranged(name: str, version: str, supported: SpecifierSet) -> Finding:
    facts = {"version": version, "supported": str(supported)}
    if supported.contains(version, prereleases=True):
        return Finding("Packages", name, "ok", f"{version}{f'  ({supported})' if supported else ''}", facts)
    return Finding("Packages", name, "wrong", f"{version} is not supported: {supported} is", facts)


def machine() -> Iterator[Finding]:
    """Processors, devices and their memory."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        detail = f"{os.cpu_count()} cores, {memory / 2**30:.1f} GiB"
    except (AttributeError, ValueError, OSError):  # Windows
        memory, detail = None, f"{os.cpu_count()} cores"
    yield Finding("Machine", "cpu", "ok", detail, {"cores": os.cpu_count(), "bytes": memory})
    for index in range(torch.cuda.device_count()):
        try:
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            yield Finding("Machine", f"cuda:{index}", "wrong", f"does not answer: {str(error).splitlines()[0]}")
            continue
        name = torch.cuda.get_device_name(index)
        detail = f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield Finding("Machine", f"cuda:{index}", "ok", detail, {"device": name, "free_bytes": free, "bytes": total})
    if torch.backends.mps.is_available():
        yield Finding("Machine", "mps", "ok", "Metal, shares the memory above")
    if not torch.cuda.device_count():
        yield Finding("Machine", "cuda", "note", "none: set device: cpu")


def easyedit(extra: Sequence[Requirement], required: bool) -> Iterator[Finding]:
    """Where EasyEdit is, whether it can be imported, and every point of it that we rely on."""
    section = "EasyEdit"
    try:
        home = find_easyedit()
    except EditError as error:
        yield Finding(section, "checkout", "wrong", str(error))
        return
    if home is None:
        detail = "not found: set EASYEDIT_HOME to a checkout of zjunlp/EasyEdit, or put it on PYTHONPATH"
        yield Finding(
            section, "checkout", "wrong" if required else "note", detail + ("" if required else " (not needed to edit without it)")
        )
        return
    commit = commit_of(home)
    yield Finding(section, "checkout", "ok", f"{home}, {f'commit {commit}' if commit else 'no git'}", {"path": str(home), "commit": commit})
    failure = _import_failure(home)
    absent = [r.name for r in extra if importlib.util.find_spec(MODULES.get(r.name, r.name)) is None]
    if absent:
        detail = f"{len(absent)} missing: pip install {' '.join(absent)}"
        yield Finding(section, "dependencies", "wrong" if failure else "note", detail, {"missing": absent})
    else:
        yield Finding(section, "dependencies", "ok", f"all {len(extra)} are there", {"missing": []})
    yield _punctuation()
    if failure:
        yield Finding(section, "import", "wrong", failure)
        return
    yield Finding(section, "import", "ok", "works")
    from .engine import points

    groups = {"BaseEditor": EDITOR_POINTS, "run": SCRIPT_POINTS.values(), "engine: easyedit": points()}
    for group, members in groups.items():
        for point in members:
            yield _checked(f"EasyEdit's contract: {group}", point)


def _checked(section: str, point: Point) -> Finding:
    name, facts = f"{point.module.removeprefix('easyeditor.')}.{point.name}", {"module": point.module, "breaks": point.breaks}
    try:
        point.get()
    except EditError as error:
        return Finding(section, name, "wrong", str(error).removeprefix("EasyEdit has changed: "), facts)
    return Finding(section, name, "ok", "present", facts)


def _import_failure(home: Path) -> str | None:
    """Why EasyEdit cannot be imported from `home`, or None if it can. What it prints is swallowed."""
    with importable(home), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("easyeditor")
        except ModuleNotFoundError as error:
            return f"fails: no module {error.name}: pip install {str(error.name).partition('.')[0]}, or what provides it"
        except Exception as error:  # noqa: BLE001 (importing it runs anything, and this is here to tell what)
            return f"fails: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


def _punctuation() -> Finding:
    """Data that no package brings: EasyEdit's fluency, which half of its scripts measure, splits words with it."""
    name = "nltk punkt_tab"
    try:
        import nltk.data

        nltk.data.find("tokenizers/punkt_tab/english")
    except (ImportError, LookupError):
        detail = "missing: scripts that set test_generation will fail; python -m nltk.downloader punkt_tab"
        return Finding("EasyEdit", name, "note", detail)
    return Finding("EasyEdit", name, "ok", "present")


def statistics(folder: Path) -> Iterator[Finding]:
    """For every YAML under `folder`, which covariance files of its model are there."""
    section, files = "Statistics", sorted(folder.rglob("*.yaml"))
    if not files:
        yield Finding(section, str(folder), "note", "no YAML files here: name a folder with --hparams")
    for file in files:
        name = str(file.relative_to(folder))
        try:
            h = load_hparams(str(file))
        except NoEasyEdit:
            yield Finding(section, name, "note", "needs EasyEdit (engine: easyedit)")
            continue
        except EditError as error:
            yield Finding(section, name, "wrong", str(error))
            continue
        if h.stats_dir is None:
            yield Finding(section, name, "ok", "stats_dir: null, kept in memory only")
        elif h.rewrite_module_tmp is None:
            yield Finding(section, name, "note", "no rewrite_module_tmp, so the files' names are not known without the model")
        else:
            yield from _files_of(section, name, h)


def _files_of(section: str, name: str, h: REPHyperParams) -> Iterator[Finding]:
    missing = []
    for layer in h.layers:
        module = h.rewrite_module_tmp.format(layer)
        path = statistics_file(h.stats_dir, str(h.model_name), module, h.mom2_dataset, h.mom2_dtype, h.mom2_n_samples)
        if not path.is_file():
            missing.append(layer)
            continue
        facts = {"layer": layer, "path": str(path), "record": path.with_suffix(".json").is_file()}
        try:
            with np.load(path, allow_pickle=False) as data:  # reads only the arrays that are asked for
                facts["tokens"] = int(data["mom2.count"])
        except NOT_AN_ARCHIVE as error:
            yield Finding(section, name, "wrong", f"layer {layer}: {path} cannot be read ({error}): delete the file to have it made again")
            continue
        record = "fingerprint recorded" if facts["record"] else "no fingerprint record, so taken on trust"
        yield Finding(section, name, "ok", f"layer {layer}: {facts['tokens']:,} tokens, {record}", facts)
    if missing:
        layers = f"layer{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
        detail = f"{layers}: not under {h.stats_dir}; made at first use from {h.rep.corpus or h.mom2_dataset}"
        yield Finding(section, name, "note", detail, {"missing": missing})


MARKS = {"ok": ("✓", "green"), "note": ("–", "yellow"), "wrong": ("✗", "red")}


def show(findings: Sequence[Finding]) -> Group:
    """A table for each section."""
    tables: dict[str, Table] = {}
    for finding in findings:
        if finding.section not in tables:
            title = Text(f"\n{finding.section}", style="bold")
            table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
            table.add_column(no_wrap=True)
            table.add_column(no_wrap=True)
            table.add_column(overflow="fold")
            tables[finding.section] = table
        mark, colour = MARKS[finding.state]
        detail = Text(finding.detail, style="" if finding.state == "ok" else colour)
        tables[finding.section].add_row(Text(mark, style=colour), Text(finding.name), detail)
    return Group(*tables.values())
