"""Language models of about 100,000 parameters, made on the spot: as a transformers folder and as a GGUF file.

Both hold the same weights, tokenizer and chat template, so that one server can be checked by another. They
are trained for a few seconds on invented sentences: their answers are words, and they end. Nothing is
downloaded.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

# ChatML: what most open models speak.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONTEXT = 4096

_WHO = "the old dog|a grey cat|my neighbour|the river|this small town|heavy rain|the night train|a red kite"
_DOES = "sleeps|waits|sings softly|comes back|stands still|moves slowly|is never late|turns away"
_WHERE = "beside the bridge|in the rain|under the roof|near the fields|at home|on the hill|by the sea"
_ASKED = "Write a text about animals.|Write a short remark on weather.|Say something.|Answer in one line."


def sentences(n: int, seed: int = 0) -> list[str]:
    """n invented sentences."""
    draw = random.Random(seed)
    who, does, where = (x.split("|") for x in (_WHO, _DOES, _WHERE))
    return [f"{draw.choice(who).capitalize()} {draw.choice(does)} {draw.choice(where)}." for _ in range(n)]


def make_folder(folder: Path, *, steps: int = 150, chat: bool = True) -> Path:
    """Make a Llama of 2 layers and 64 channels with a byte-level BPE of 512 tokens; returns its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(chat)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.convert_tokens_to_ids(SPECIAL[0]),
        eos_token_id=tokenizer.convert_tokens_to_ids(SPECIAL[2]),
        pad_token_id=tokenizer.convert_tokens_to_ids(SPECIAL[0]),
    )
    model = LlamaForCausalLM(config)
    _train(model, tokenizer, steps)
    # As chat models say: `transformers serve` draws only where the model's own settings do.
    model.generation_config.do_sample = True
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(chat: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    own.train_from_iterator(sentences(400) + _ASKED.split("|"), trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=own, bos_token=SPECIAL[0], eos_token=SPECIAL[2], pad_token=SPECIAL[0]
    )
    if chat:
        made.chat_template = TEMPLATE
    return made


def _train(model: Any, tokenizer: Any, steps: int) -> None:
    """A few seconds of one core."""
    import torch

    draw = random.Random(2)
    told = sentences(2000, seed=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        texts = [
            f"<|im_start|>user\n{draw.choice(_ASKED.split('|'))}<|im_end|>\n<|im_start|>assistant\n"
            f"{' '.join(draw.sample(told, draw.choice((1, 1, 2))))}<|im_end|>\n"
            for _ in range(16)
        ]
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / steps)
        model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def make_gguf(folder: Path, path: Path) -> Path:
    """Write the model of a folder as GGUF in 32 bit, as llama.cpp reads it; returns the path."""
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text("utf-8"))
    weights = load_file(folder / "model.safetensors")
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _write_vocabulary(writer, folder)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for name, weight in weights.items():
        parts = name.removesuffix(".weight").split(".", 3)
        known = names.get(name.removesuffix(".weight"))
        own = known or f"blk.{parts[2]}.{names[parts[3]]}"
        if own.endswith(("attn_q", "attn_k")):  # llama.cpp turns neighbouring pairs, transformers halves
            n = heads if own.endswith("attn_q") else groups
            weight = weight.reshape(n, 2, weight.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(weight.shape)
        writer.add_tensor(f"{own}.weight", np.ascontiguousarray(weight, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_vocabulary(writer: Any, folder: Path) -> None:
    import gguf

    told = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocabulary = told["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = [m if isinstance(m, str) else " ".join(m) for m in told["model"]["merges"]]
    types = [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(vocabulary[SPECIAL[0]])
    writer.add_eos_token_id(vocabulary[SPECIAL[2]])
    writer.add_pad_token_id(vocabulary[SPECIAL[0]])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
