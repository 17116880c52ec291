"""The tokenizer of the demo model: byte-level BPE in the shape of a Llama tokenizer."""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .mixture import short_text
from .world import World

VOCAB_SIZE = 2048
MAX_LENGTH = 1024


def train_tokenizer(world: World, paragraphs: list[str], seed: int = 0) -> PreTrainedTokenizerFast:
    """A tokenizer whose words are those of the prose, the templates and the objects; names stay in several tokens."""
    rng = random.Random(f"tokenizer-{seed}")
    texts = list(paragraphs)
    # Few enough statements that names do not become single tokens, and every object often enough that it does.
    texts += ["".join(piece.text for piece in short_text(world, paragraphs, rng)) for _ in range(2800)]
    texts += [f"It is {word}." for word in sorted({fact.target for fact in world.facts}) for _ in range(250)]
    texts += [f"It is a {kind}." for kind in sorted({e.kind for e in world.entities}) for _ in range(200)]

    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", core.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
    )


def save_tokenizer(tok: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save the tokenizer under the class name that Transformers 4 knows as well as 5."""
    tok.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("backend", None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
