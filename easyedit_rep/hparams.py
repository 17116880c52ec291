"""Hyper-parameters: EasyEdit's field names for the base method, plus one `rep:` block (`rep_options.py`)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from .config import build, check_keys, read_yaml
from .errors import EditError
from .methods import METHODS, get_method
from .pathway.closed import pathway_layers
from .rep_options import RepOptions


@dataclass(eq=False)
class REPHyperParams:
    """Hyper-parameters of REP around a locate-and-edit method: EasyEdit's fields of that method, and `rep`.

    A YAML is one of EasyEdit's own with `alg_name: REP` and a `rep:` block. `stats_dir: null` keeps statistics in memory only.
    `model_name` may be a loaded (model, tokenizer) pair.

    Attributes:
        method: what only the base method has (`mom2_update_weight` …): its options for a native method, else a dict with the names of
            EasyEdit's. In a YAML these stand at the top level, as in EasyEdit's.
        bf16: load the model in bfloat16, in which one of 7 billion parameters fits into 24 GiB; ours, as EasyEdit has `fp16` alone.
        context_template_length_params: [[length, number], …] of the contexts; null takes the base method's own.
    """

    # Method
    layers: list[int]
    v_num_grad_steps: int
    v_lr: float
    v_loss_layer: int
    v_weight_decay: float
    clamp_norm_factor: float
    kl_factor: float
    mom2_adjustment: bool
    # Statistics
    mom2_dataset: str
    mom2_n_samples: int
    mom2_dtype: str
    stats_dir: str | None
    # Model
    model_name: Any
    device: int | str
    rep: RepOptions
    method: Any = None
    context_template_length_params: list[list[int]] | None = None
    fact_token: str = "subject_last"
    rewrite_module_tmp: str | None = None
    layer_module_tmp: str | None = None
    mlp_module_tmp: str | None = None
    attn_module_tmp: str | None = None
    ln_f_module: str | None = None
    lm_head_module: str | None = None
    batch_size: int = 1
    max_length: int = 40
    model_parallel: bool = False
    fp16: bool = False
    bf16: bool = False

    def __post_init__(self):
        if self.rep.base in METHODS:
            self.method = self.method if self.method is not None else {}
            if isinstance(self.method, Mapping):
                self.method = build(METHODS[self.rep.base].options, self.method, f"base {self.rep.base}")
        elif self.method is None:
            self.method = {}
        if not self.layers:
            raise EditError("layers is empty: name the layer to edit")
        own = None if self.rep.fitted is None else self.rep.fitted.layer
        if own is not None and own <= max(self.layers):
            raise EditError(f"rep.closed.layer: {own} is not above the edited layers {self.layers}: take one that is")
        if self.batch_size < 1:
            raise EditError(f"batch_size: {self.batch_size} is not positive")
        if self.v_num_grad_steps < 1:
            raise EditError(f"v_num_grad_steps: {self.v_num_grad_steps} is not positive")
        if self.fact_token != "subject_last":
            raise EditError(f"fact_token: {self.fact_token!r} is not supported, a pathway sits on subject_last")
        for pair in self.context_template_length_params or []:
            if len(pair) != 2 or min(pair) < 1:
                raise EditError(f"context_template_length_params: {pair!r} is no [length, number] of positive numbers")
        if self.fp16 and self.bf16:
            raise EditError("fp16 and bf16: set one of them")
        if self.mom2_dtype not in ("float32", "float64"):
            raise EditError(f"mom2_dtype: {self.mom2_dtype!r} is neither float32 nor float64 (sums over a corpus overflow float16)")

    ALG_NAME: ClassVar[str] = "REP"

    @property
    def pathway_layers(self) -> list[int]:
        """Layers in which an edit has a pathway."""
        return pathway_layers(self.layers, self.rep.fitted)

    @property
    def memory_layers(self) -> list[int]:
        """Layers whose C is needed: those that are edited, and those in which an edit has a pathway."""
        return sorted({*self.layers, *(self.pathway_layers if self.rep.pathways else ())})

    @property
    def alg_name(self) -> str:
        """ "REP" (or "D4S"). EasyEdit's editor reads this before anything else, so reading it is when REP makes itself known to EasyEdit:
        whichever of the two was imported first."""
        from .integrations import activate_easyedit

        activate_easyedit()
        return self.ALG_NAME

    @classmethod
    def from_hparams(cls, hparams_name_or_path: str) -> "REPHyperParams":
        """From a YAML file under hparams/REP/. `model_name`, `rep.corpus` and `rep.queries.rephrase_file` may be relative to the
        working directory or to the file; `stats_dir` and `rep.value_cache` are relative to the working directory.

        Raises:
            EditError: unreadable file, another `alg_name`, no `rep:` block, an unknown or missing key, a wrong type.
        """
        data = read_yaml(hparams_name_or_path)
        where = Path(hparams_name_or_path).name
        data = cls._with_rep(data, where)
        if data.pop("alg_name", None) != cls.ALG_NAME:
            raise EditError(f"{where}: alg_name must be {cls.ALG_NAME}")
        hparams = build(cls, _method_apart(data, where), where)
        folder = Path(hparams_name_or_path).resolve().parent
        hparams.model_name = _resolve(hparams.model_name, folder)
        hparams.rep.corpus = _resolve(hparams.rep.corpus, folder)
        hparams.rep.queries.rephrase_file = _resolve(hparams.rep.queries.rephrase_file, folder)
        return hparams

    def record(self) -> dict:
        """All values, for records of what was made with them. What others have put on the object (an `api_key`) is none of them."""
        method = self.method if isinstance(self.method, dict) else asdict(self.method)
        name = self.model_name if isinstance(self.model_name, str) else "a loaded model"
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "rep": asdict(self.rep), "method": method, "model_name": name}

    @classmethod
    def _with_rep(cls, data: dict, where: str) -> dict:
        if "rep" not in data:
            raise EditError(f"{where} has no rep: block, so it is not a REP file: add one, or take a file under hparams/REP/")
        return data


@dataclass(eq=False)
class D4SHyperParams(REPHyperParams):
    """Hyper-parameters of D4S: EasyEdit's MEMIT fields, and a `d4s:` block.

    A `rep:` block adds a robust pathway to every edit; without one (or with `pathways: false` in it) edits are D4S's alone.
    """

    ALG_NAME: ClassVar[str] = "D4S"

    @classmethod
    def _with_rep(cls, data: dict, where: str) -> dict:
        rep = data.get("rep")
        if rep is None:
            return {**data, "rep": {"base": "D4S", "pathways": False}}
        if not isinstance(rep, Mapping):
            return data  # refused with the other wrong types
        if rep.get("base", "D4S") != "D4S":
            raise EditError(f"{where}: rep.base is {rep['base']!r}: alg_name D4S has no other base, use alg_name REP for {rep['base']}")
        return {**data, "rep": {**rep, "base": "D4S"}}


KINDS = {cls.ALG_NAME: cls for cls in (REPHyperParams, D4SHyperParams)}
"""`alg_name` -> class."""


def load_hparams(path: str) -> REPHyperParams:
    """The hyper-parameters in a YAML, of the class its `alg_name` asks for."""
    kind = read_yaml(path).get("alg_name")
    return (KINDS.get(kind, REPHyperParams) if isinstance(kind, str) else REPHyperParams).from_hparams(path)


def _method_apart(data: dict, where: str) -> dict:
    """`data` with the keys that only the base method has built into `method`."""
    rep = data["rep"] if isinstance(data["rep"], Mapping) else {}
    base, native = rep.get("base", RepOptions.base), rep.get("engine", RepOptions.engine) == "native"
    ours = {f.name for f in fields(REPHyperParams)} - {"method"}
    own = {key: value for key, value in data.items() if key not in ours}
    if not isinstance(base, str):
        raise EditError(f"{where}: rep.base must be the name of a method, not {base!r}")
    if base in METHODS:
        options = METHODS[base].options
        names = [f.name for f in fields(options)]
        check_keys(own, [*names, *ours], where)
        method = build(options, own, where)
    elif native:
        get_method(base)
    else:
        from .integrations.engine import check_fields

        check_fields(base, own, where)
        method = own
    return {**{key: value for key, value in data.items() if key in ours}, "method": method}


def _resolve(path, folder: Path):
    """`path` as given if it exists from here (or is no path at all), else as seen from `folder` if it exists there."""
    if isinstance(path, str) and not Path(path).exists() and (folder / path).exists():
        return str(folder / path)
    return path
