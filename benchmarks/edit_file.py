"""How large the file of one ROME+REP edit is, and what makes it so: python benchmarks/edit_file.py [--kind closed] [--gate-dtype bfloat16]

A delta of rank one and a pathway with start weights, on one down-projection of Llama-2-7B's shape; no model is needed.
"""

import argparse
import tempfile
import time
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from easyedit_rep.anatomy import ModuleNames
from easyedit_rep.edit import Edit, Pathway
from easyedit_rep.edits.artefact import TENSORS, Artefact, Weight
from easyedit_rep.memory.delta import Delta
from easyedit_rep.pathway import RepConfig, RepLayer
from easyedit_rep.pathway.model import detached_state
from easyedit_rep.request import EditRequest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, size in (("keys", 11008), ("values", 4096), ("rank", 32)):
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--gate-ratio", type=float, default=0.1)
    parser.add_argument("--gate-dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--kind", choices=["paper", "closed"], default="paper", help="closed: two detectors, and a value")
    options = parser.parse_args()
    name = "model.layers.5.mlp.down_proj"
    config = RepConfig(target_modules=[name], rank=options.rank, gate_ratio=options.gate_ratio, kind=options.kind, detectors=2)
    config.value = options.kind == "closed"
    layer = RepLayer(nn.Linear(options.keys, options.values, bias=False), "x", config)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.01)
    tensors = detached_state(layer, "x")
    if options.kind == "paper":
        tensors["rep_gate_in.weight"] = tensors["rep_gate_in.weight"].to(getattr(torch, options.gate_dtype)).float()
    request = EditRequest("The mother tongue of {} is", "Danielle Darrieux", "English", "French")
    delta = Delta(torch.randn(options.values, 1), torch.randn(1, options.keys))
    edit = Edit((request,), "ROME", {5: delta}, (Pathway(config, {5: tensors}),), info={"keys": {5: torch.randn(1, options.keys)}})
    weight = Weight(f"{name}.weight", name, [options.values, options.keys], "float16", "0" * 64)
    llama = ModuleNames("model.layers.{}.mlp.down_proj", "model.layers.{}.mlp", "model.layers.{}", "model.norm", "lm_head")
    model = {"name": "llama-2-7b", "type": "llama", "modules": vars(llama)}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        Artefact([edit], model, {5: weight}, False).write(folder)
        written = time.perf_counter()
        Artefact.read(folder)
        read = time.perf_counter()
        total = sum(path.stat().st_size for path in Path(folder).iterdir())
        print(f"{total / 1e6:.2f} MB, written in {written - start:.2f} s, read and checked in {read - written:.2f} s")
        for key, tensor in sorted(load_file(Path(folder) / TENSORS).items(), key=lambda pair: -pair[1].nbytes):
            print(f"{tensor.nbytes / 1e6:9.3f} MB {100 * tensor.nbytes / total:5.1f} %  {str(tensor.dtype)[6:]:9} {key}")
        if options.kind != "paper":
            return
        # What a general compressor would still find, the bytes of equal weight side by side.
        gate = load_file(Path(folder) / TENSORS)[f"base_model.model.{name}.rep_gate_in.weight"]
        planes = gate.view(torch.uint8).view(-1, gate.element_size()).T.contiguous().numpy().tobytes()
        print(f"the gate's matrix by zlib, byte planes apart: {100 * len(zlib.compress(planes, 6)) / len(planes):.1f} %")


if __name__ == "__main__":
    main()
