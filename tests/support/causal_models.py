"""A tiny random model of every class that transformers generates text with, and how each is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

VOCABULARY = 100

Sizes = dict[str, Any]

SIZES: Sizes = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
TINY: Sizes = {
    **SIZES,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GQA: Sizes = {**TINY, "num_key_value_heads": 2}
BERT: Sizes = {**TINY, "is_decoder": True}
GPT: Sizes = {**SIZES, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
ROPE: Sizes = {**GPT, "rotary_dim": 4}
BART: Sizes = {
    **SIZES,
    "d_model": 32,
    "decoder_layers": 2,
    "encoder_layers": 1,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_ffn_dim": 64,
    "encoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "is_encoder_decoder": False,
    "is_decoder": True,
    "add_cross_attention": False,
}

CONFIGS: Mapping[str, tuple[str, Sizes]] = {
    "BartForCausalLM": ("BartConfig", BART),
    "BertGenerationDecoder": ("BertGenerationConfig", BERT),
    "BertLMHeadModel": ("BertConfig", BERT),
    "BigBirdForCausalLM": ("BigBirdConfig", {**BERT, "attention_type": "original_full"}),
    "BigBirdPegasusForCausalLM": ("BigBirdPegasusConfig", {**BART, "attention_type": "original_full"}),
    "BioGptForCausalLM": ("BioGptConfig", GQA),
    "BlenderbotForCausalLM": ("BlenderbotConfig", BART),
    "BlenderbotSmallForCausalLM": ("BlenderbotSmallConfig", BART),
    "BloomForCausalLM": ("BloomConfig", {**SIZES, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "CTRLLMHeadModel": ("CTRLConfig", {**GPT, "dff": 64}),
    "CamembertForCausalLM": ("CamembertConfig", BERT),
    "CodeGenForCausalLM": ("CodeGenConfig", {**GPT, "rotary_dim": 4}),
    "CohereForCausalLM": ("CohereConfig", GQA),
    "CpmAntForCausalLM": (
        "CpmAntConfig",
        {
            **SIZES,
            "hidden_size": 32,
            "num_attention_heads": 4,
            "dim_head": 8,
            "dim_ff": 64,
            "num_hidden_layers": 2,
            "prompt_types": 4,
            "prompt_length": 8,
            "segment_types": 4,
        },
    ),
    "Data2VecTextForCausalLM": ("Data2VecTextConfig", BERT),
    "DbrxForCausalLM": (
        "DbrxConfig",
        {
            **SIZES,
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8},
            "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
        },
    ),
    "ElectraForCausalLM": ("ElectraConfig", {**BERT, "embedding_size": 32}),
    "ErnieForCausalLM": ("ErnieConfig", BERT),
    "FalconForCausalLM": (
        "FalconConfig",
        {**SIZES, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    ),
    "FuyuForCausalLM": (
        "FuyuConfig",
        {
            **GQA,
            "text_config": {
                "vocab_size": 100,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "eos_token_id": None,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "max_position_embeddings": 64,
                "num_key_value_heads": 2,
                "model_type": "persimmon",
            },
        },
    ),
    "GPT2LMHeadModel": ("GPT2Config", GPT),
    "GPTBigCodeForCausalLM": ("GPTBigCodeConfig", GPT),
    "GPTJForCausalLM": ("GPTJConfig", {**GPT, "rotary_dim": 4}),
    "GPTNeoForCausalLM": (
        "GPTNeoConfig",
        {
            **SIZES,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 6,
            "max_position_embeddings": 64,
        },
    ),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", TINY),
    "GPTNeoXJapaneseForCausalLM": ("GPTNeoXJapaneseConfig", TINY),
    "Gemma2ForCausalLM": ("Gemma2Config", {**GQA, "head_dim": 8, "sliding_window": 6}),
    "GemmaForCausalLM": ("GemmaConfig", {**GQA, "head_dim": 8}),
    "GitForCausalLM": (
        "GitConfig",
        {
            **TINY,
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 16,
                "patch_size": 8,
            },
        },
    ),
    "JambaForCausalLM": (
        "JambaConfig",
        {
            **GQA,
            "num_hidden_layers": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 2,
            "use_mamba_kernels": False,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
        },
    ),
    "JetMoeForCausalLM": (
        "JetMoeConfig",
        {
            **SIZES,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "max_position_embeddings": 64,
            "num_key_value_heads": 2,
            "kv_channels": 8,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "LlamaForCausalLM": ("LlamaConfig", GQA),
    "MBartForCausalLM": ("MBartConfig", BART),
    "Mamba2ForCausalLM": (
        "Mamba2Config",
        {
            **SIZES,
            "hidden_size": 32,
            "state_size": 8,
            "num_hidden_layers": 2,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 2,
            "chunk_size": 8,
        },
    ),
    "MambaForCausalLM": (
        "MambaConfig",
        {**SIZES, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 2},
    ),
    "MarianForCausalLM": ("MarianConfig", BART),
    "MegaForCausalLM": (
        "MegaConfig",
        {
            **BERT,
            "ema_projection_size": 4,
            "shared_representation_size": 16,
            "use_chunking": False,
            "bidirectional": False,
        },
    ),
    "MegatronBertForCausalLM": ("MegatronBertConfig", BERT),
    "MistralForCausalLM": ("MistralConfig", {**GQA, "sliding_window": 6}),
    "MixtralForCausalLM": ("MixtralConfig", {**GQA, "num_local_experts": 4}),
    "MptForCausalLM": (
        "MptConfig",
        {**SIZES, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "expansion_ratio": 2},
    ),
    "MusicgenForCausalLM": ("MusicgenDecoderConfig", {**TINY, "ffn_dim": 64, "num_codebooks": 4}),
    "MusicgenMelodyForCausalLM": ("MusicgenMelodyDecoderConfig", {**TINY, "ffn_dim": 64, "num_codebooks": 4}),
    "MvpForCausalLM": ("MvpConfig", BART),
    "NemotronForCausalLM": ("NemotronConfig", GQA),
    "OPTForCausalLM": ("OPTConfig", {**TINY, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "OlmoForCausalLM": ("OlmoConfig", GQA),
    "OpenAIGPTLMHeadModel": ("OpenAIGPTConfig", GPT),
    "OpenLlamaForCausalLM": ("OpenLlamaConfig", {**TINY, "use_memory_efficient_attention": False}),
    "PLBartForCausalLM": ("PLBartConfig", BART),
    "PegasusForCausalLM": ("PegasusConfig", BART),
    "PersimmonForCausalLM": ("PersimmonConfig", TINY),
    "Phi3ForCausalLM": ("Phi3Config", {**GQA, "sliding_window": 6}),
    "PhiForCausalLM": ("PhiConfig", {**GQA, "num_key_value_heads": 4}),
    "ProphetNetForCausalLM": (
        "ProphetNetConfig",
        {
            **SIZES,
            "hidden_size": 32,
            "num_decoder_layers": 2,
            "num_encoder_layers": 1,
            "num_decoder_attention_heads": 4,
            "num_encoder_attention_heads": 4,
            "decoder_ffn_dim": 64,
            "encoder_ffn_dim": 64,
            "max_position_embeddings": 64,
            "is_encoder_decoder": False,
            "is_decoder": True,
            "add_cross_attention": False,
            "ngram": 2,
        },
    ),
    "QDQBertLMHeadModel": ("QDQBertConfig", BERT),
    "Qwen2ForCausalLM": (
        "Qwen2Config",
        {**GQA, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    "Qwen2MoeForCausalLM": (
        "Qwen2MoeConfig",
        {**GQA, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    ),
    "RecurrentGemmaForCausalLM": (
        "RecurrentGemmaConfig",
        {
            **SIZES,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "lru_width": 32,
            "attention_window_size": 6,
            "head_dim": 8,
        },
    ),
    "ReformerModelWithLMHead": (
        "ReformerConfig",
        {
            **SIZES,
            "hidden_size": 32,
            "feed_forward_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "attention_head_size": 8,
            "attn_layers": ["local", "lsh"],
            "axial_pos_embds": True,
            "axial_pos_shape": [8, 8],
            "axial_pos_embds_dim": [16, 16],
            "is_decoder": True,
            "num_buckets": 2,
            "num_hashes": 1,
            "lsh_attn_chunk_length": 4,
            "local_attn_chunk_length": 4,
            "max_position_embeddings": 64,
            "hash_seed": 0,
        },
    ),
    "RemBertForCausalLM": (
        "RemBertConfig",
        {**BERT, "input_embedding_size": 16, "output_embedding_size": 16},
    ),
    "RoCBertForCausalLM": (
        "RoCBertConfig",
        {
            **BERT,
            "pronunciation_embed_dim": 8,
            "shape_embed_dim": 8,
            "pronunciation_vocab_size": 20,
            "shape_vocab_size": 20,
            "concat_input": True,
        },
    ),
    "RoFormerForCausalLM": ("RoFormerConfig", {**BERT, "embedding_size": 32}),
    "RobertaForCausalLM": ("RobertaConfig", BERT),
    "RobertaPreLayerNormForCausalLM": ("RobertaPreLayerNormConfig", BERT),
    "RwkvForCausalLM": (
        "RwkvConfig",
        {
            **SIZES,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "attention_hidden_size": 32,
            "context_length": 64,
        },
    ),
    "Speech2Text2ForCausalLM": ("Speech2Text2Config", {**BART, "max_target_positions": 64}),
    "StableLmForCausalLM": ("StableLmConfig", GQA),
    "Starcoder2ForCausalLM": ("Starcoder2Config", {**GQA, "sliding_window": 6}),
    "TrOCRForCausalLM": ("TrOCRConfig", BART),
    "TransfoXLLMHeadModel": (
        "TransfoXLConfig",
        {
            **SIZES,
            "cutoffs": [20, 40],
            "d_model": 32,
            "d_embed": 32,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 64,
            "n_layer": 2,
            "mem_len": 16,
            "clamp_len": 16,
        },
    ),
    "WhisperForCausalLM": (
        "WhisperConfig",
        {**BART, "max_target_positions": 64, "max_source_positions": 32, "decoder_start_token_id": 1},
    ),
    "XGLMForCausalLM": (
        "XGLMConfig",
        {
            **SIZES,
            "d_model": 32,
            "ffn_dim": 64,
            "num_layers": 2,
            "attention_heads": 4,
            "max_position_embeddings": 64,
        },
    ),
    "XLMProphetNetForCausalLM": (
        "XLMProphetNetConfig",
        {
            **SIZES,
            "hidden_size": 32,
            "num_decoder_layers": 2,
            "num_encoder_layers": 1,
            "num_decoder_attention_heads": 4,
            "num_encoder_attention_heads": 4,
            "decoder_ffn_dim": 64,
            "encoder_ffn_dim": 64,
            "max_position_embeddings": 64,
            "is_encoder_decoder": False,
            "is_decoder": True,
            "add_cross_attention": False,
            "ngram": 2,
        },
    ),
    "XLMRobertaForCausalLM": ("XLMRobertaConfig", BERT),
    "XLMRobertaXLForCausalLM": ("XLMRobertaXLConfig", BERT),
    "XLMWithLMHeadModel": (
        "XLMConfig",
        {
            **SIZES,
            "n_words": 100,
            "emb_dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "max_position_embeddings": 64,
            "causal": True,
            "mask_token_id": 5,
            "lang_id": 0,
        },
    ),
    "XLNetLMHeadModel": ("XLNetConfig", {**SIZES, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}),
    "XmodForCausalLM": ("XmodConfig", {**BERT, "languages": ("en_XX",), "default_language": "en_XX"}),
}
"""Class of the configuration and its settings, by class of the model. Windows are shorter than the prompt."""


@dataclass(frozen=True)
class Prompt:
    """How a model is prompted.

    Attributes:
        rows: rows of the batch.
        padded: whether rows are padded at the left.
        mask: whether the model takes an attention mask.
    """

    rows: int = 2
    padded: bool = True
    mask: bool = True


PROMPTS: Mapping[str, Prompt] = {
    "MusicgenForCausalLM": Prompt(rows=4, padded=False),  # one row a codebook
    "MusicgenMelodyForCausalLM": Prompt(rows=4, padded=False),
    "MegaForCausalLM": Prompt(padded=False),  # a padded row is all NaN
    "MambaForCausalLM": Prompt(mask=False),
    "TransfoXLLMHeadModel": Prompt(mask=False),
}

CANNOT_BE_MADE: Mapping[str, str] = {"QDQBertLMHeadModel": "requires the pytorch-quantization library"}
"""Classes of which there is no model here, with what the library says."""

CANNOT_GENERATE: Mapping[str, str] = {"TransfoXLLMHeadModel": "type_as() missing"}
"""Classes that newer releases of torch break, untraced, with what torch says."""

STATIC_FAILS: Mapping[str, str] = {
    "Gemma2ForCausalLM": "must match the size of tensor b",
    "WhisperForCausalLM": "list index out of range",
}
"""Classes that say they support a static cache and fail with one, untraced."""


def model_of(name: str) -> PreTrainedModel:
    """A random model in eval mode.

    Args:
        name: a key of :data:`CONFIGS`.
    """
    kind, settings = CONFIGS[name]
    config = getattr(transformers, kind)(**settings)
    # The default spread gives nearly equal logits; wider weights give real choices.
    config.initializer_range = 0.5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = getattr(transformers, name)(config).eval()
    given = model.generation_config
    given.eos_token_id, given.pad_token_id = None, 0
    given.bos_token_id = 1 if given.bos_token_id is None else given.bos_token_id
    given.decoder_start_token_id = 0
    return model


def prompt_of(name: str, length: int = 9) -> dict[str, torch.Tensor]:
    """Its prompt: input ids, and a mask if it takes one.

    Args:
        name: the class.
        length: tokens of each row.
    """
    prompt = PROMPTS.get(name, Prompt())
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(6, VOCABULARY - 1, (prompt.rows, length), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(1, prompt.rows) if prompt.padded and prompt.mask else ():
        mask[row, :row] = 0
    found = {"input_ids": ids.masked_fill(mask == 0, 0)}
    return {**found, "attention_mask": mask} if prompt.mask else found
