"""Saved edits in tables. Reads records; never a model."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..edits.try_out import Asked, Finding


def listing(found: Sequence[tuple[Path, Mapping]]) -> Table:
    """One row an edit, numbered as `remove` counts them."""
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("folder", "#", "method", "facts", "first fact", "new answer", "layers", "pathways", "made"):
        out.add_column(heading, justify="right" if heading in ("#", "facts", "pathways") else "left", overflow="fold")
    for folder, record in found:
        for i, edit in enumerate(record["edits"]):
            first = edit["requests"][0] if edit["requests"] else {"prompt": "–", "subject": "", "target_new": "–"}
            layers = ", ".join(edit["deltas"]) or "merged"
            row = (str(folder), str(i), edit["method"], str(len(edit["requests"])), _prompt(first), first["target_new"], layers)
            out.add_row(*map(Text, (*row, str(len(edit["pathways"])), edit["made"])))
    return out


def details(folder: Path, record: Mapping) -> Iterator[Table | Text]:
    """The record of one file: where it belongs, then each edit."""
    model, size = record["model"], sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    made_with = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    yield Text(f"{folder}: {len(record['edits'])} edits of {model['name'] or model['type']}, {size:,} bytes, saved {record['saved']}")
    yield Text(f"made with {made_with}")
    weights = Table("weight", "shape", "dtype", "sha256 of the original", box=box.SIMPLE_HEAD, pad_edge=False)
    for weight in record["weights"].values():
        weights.add_row(weight["name"], "×".join(map(str, weight["shape"])), weight["dtype"], weight["original"][:16] + "…")
    yield weights
    yield listing([(folder, record)])
    numbers = Table("#", "what", "value", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, edit in enumerate(record["edits"]):
        for what, value in _numbers(edit):
            numbers.add_row(str(i), what, value)
    yield numbers


def _numbers(edit: Mapping) -> Iterator[tuple[str, str]]:
    """What was measured of an edit, and with what it was made."""
    for layer, norm in edit["norms"].items():
        yield f"‖ΔW‖ of layer {layer}", f"{norm:.4g}"
    for part, seconds in edit["seconds"].items():
        yield f"seconds for the {part}", f"{seconds:.2f}"
    for when in ("pre", "post"):
        for name, value in edit["metrics"].get(when, {}).items():
            if isinstance(value, (int, float)) or (isinstance(value, list) and all(isinstance(v, (int, float)) for v in value)):
                yield f"{when}: {name}", str(value)
    for name in ("layers", "v_num_grad_steps", "v_lr", "clamp_norm_factor", "kl_factor", "mom2_dataset"):
        if name in edit["hparams"]:
            yield name, str(edit["hparams"][name])


def differences(asked: Sequence["Asked"], before: Sequence[str], after: Sequence[str]) -> Table:
    """Answers side by side; those that changed are bold."""
    out = Table("", "prompt", "before", "after", "wanted", box=box.SIMPLE_HEAD, pad_edge=False)
    for one, old, new in zip(asked, before, after, strict=True):
        style = "bold" if old != new else ""
        out.add_row(Text(one.kind), Text(one.text), Text(old), Text(new, style), Text(one.target or "as before"))
    return out


def verdicts(findings: Sequence["Finding"]) -> Table:
    """A mark before each finding."""
    out = Table("", "what", "", box=box.SIMPLE, show_header=False, pad_edge=False)
    for finding in findings:
        out.add_row(Text("✓", "green") if finding.well else Text("✗", "red"), Text(finding.what), Text(finding.said))
    return out


def _prompt(request: Mapping) -> str:
    return request["prompt"].replace("{}", request["subject"])
