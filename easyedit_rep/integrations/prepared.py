"""EasyEdit made ready to run one of its methods on our memory, and put back as it was."""

import contextlib
import importlib
import io
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass

import torch

from ..anatomy import Anatomy
from ..config import check_keys
from ..errors import EditError
from ..hparams import REPHyperParams
from ..memory.replay import frozen
from ..methods.base import Memory
from ..pathway.model import global_randomness_kept
from .bases import get_base
from .contract import HPARAMS_CLASSES, part
from .state import MODEL_NAME

ALGORITHMS = "easyeditor.util.alg_dict"
_ABSENT = object()


@contextlib.contextmanager
def _assigned(*places: tuple[object, str, object]) -> Iterator[None]:
    """(object, attribute, value): the values hold inside, the old ones are put back after, and what was absent is absent again."""
    before = [(owner, name, getattr(owner, name, _ABSENT)) for owner, name, _ in places]
    try:
        for owner, name, value in places:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is not _ABSENT:
                setattr(owner, name, value)
            elif hasattr(owner, name):
                delattr(owner, name)


def _options_class(base: str) -> type:
    get_base(base)
    return part(ALGORITHMS, HPARAMS_CLASSES[base], type, f"rep.base: {base} cannot be run")


def _ours(base: str) -> set[str]:
    """Hyper-parameters of EasyEdit's that need not stand in a YAML's part of the base method."""
    return {f.name for f in fields(REPHyperParams)} | {"alg_name", "layer_selection", "P_loc", "rewrite_module_tmps"}


def _checked(base: str, own: Mapping[str, object], where: str) -> dict[str, object]:
    """`own` hyper-parameters of method `base` with their numbers as numbers: YAML 1.1 reads 1e-3 as a string."""
    kind = _options_class(base)
    check_keys(own, [f.name for f in fields(kind)], where)
    needed = [f.name for f in fields(kind) if f.init and f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in own and name not in _ours(base)]
    if missing:
        raise EditError(f"{where}: EasyEdit's {base} needs {', '.join(missing)}")
    hints, out = typing.get_type_hints(kind), dict(own)
    for name, value in own.items():
        if hints[name] in (int, float) and not isinstance(value, bool | int | float):
            try:
                out[name] = float(value)
            except (TypeError, ValueError):
                raise EditError(f"{where}: {name} must be a number, not {value!r}") from None
    return out


def check_fields(base: str, own: Mapping[str, object], where: str) -> None:
    """Raise `EditError` unless `own` are what EasyEdit's method `base` needs beside REP's own hyper-parameters, and no more."""
    _checked(base, own, where)


def _head(anatomy: Anatomy) -> str:
    """The head, by the name its weight has among the model's parameters: where it is tied, that is the embedding's."""
    weight = anatomy.model.get_submodule(anatomy.names.lm_head_module).weight
    return next(name for name, parameter in anatomy.model.named_parameters() if parameter is weight).removesuffix(".weight")


def their_hparams(memory: Memory, hparams: REPHyperParams):
    """EasyEdit's own hyper-parameters of method `hparams.rep.base`. The model says where it is and what its modules are called."""
    base, anatomy, method = hparams.rep.base, memory.anatomy, hparams.method
    own = asdict(method) if is_dataclass(method) else _checked(base, method, f"base {base}")
    ours = {
        "layer_selection": "all",
        **vars(hparams),
        **own,
        **asdict(anatomy.names),
        "lm_head_module": _head(anatomy),
        "attn_module_tmp": hparams.attn_module_tmp or "",
        "layers": sorted(hparams.layers),
        "alg_name": base,
        "model_name": MODEL_NAME,
        "device": anatomy.embedding_device,
        "stats_dir": hparams.stats_dir or "",
        **get_base(base).adapt(memory, hparams),
    }
    kind = _options_class(base)
    wanted = [f for f in fields(kind) if f.init]
    missing = [f.name for f in wanted if f.name not in ours and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise EditError(f"EasyEdit's {base} needs {', '.join(missing)}, which REP's hyper-parameters lack: use engine: native")
    return kind(**{f.name: ours[f.name] for f in wanted if f.name in ours})


def _places(memory: Memory, hparams: REPHyperParams) -> Sequence[tuple[object, str, object]]:
    """Everything that is changed for a run, and to what."""
    places: list[tuple[object, str, object]] = []
    base = get_base(hparams.rep.base)
    for path, make in base.state.items():
        module, _, name = f"easyeditor.models.{path}".rpartition(".")
        if path not in base.late:
            part(module, name, object, "models would share what belongs to one")
        places.append((importlib.import_module(module), name, make(memory, hparams)))
    model, tok = memory.anatomy.model, memory.tok
    places += [(model.config, "_name_or_path", MODEL_NAME), (model, "name_or_path", MODEL_NAME)]
    # EasyEdit counts positions from the left, whatever side its editor has told the tokenizer to pad on.
    places.append((tok, "padding_side", "right"))
    if tok.pad_token is None:
        places.append((tok, "pad_token", tok.eos_token))
    return places


@contextlib.contextmanager
def prepared(memory: Memory, hparams: REPHyperParams) -> Iterator[object]:
    """EasyEdit's hyper-parameters of method `hparams.rep.base`, and inside, EasyEdit ready to run it on this memory: its process-wide
    caches hold what belongs to this model, its prints are silenced, chance comes from `hparams.rep.seed`, and the tokenizer pads on the
    right. All is put back after.

    Raises:
        EditError: no EasyEdit, or a method it cannot run here.
    """
    theirs = their_hparams(memory, hparams)
    places = _places(memory, hparams)
    model = memory.anatomy.model
    with frozen(model), global_randomness_kept(model), _assigned(*places), contextlib.redirect_stdout(io.StringIO()):
        torch.manual_seed(hparams.rep.seed)
        yield theirs
