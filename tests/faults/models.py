"""Small model folders in transformers' format."""

from pathlib import Path


def save_model(folder: Path, scale: float = 1.0) -> None:
    """A random BERT with a word tokenizer; `scale` multiplies one of its weights."""
    import torch
    from transformers import BertConfig, BertModel

    from ablate.model.word_tokenizer import word_tokenizer

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=128,
    )  # fmt: skip
    model = BertModel(config)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5, 5] *= scale
    model.save_pretrained(folder)
    word_tokenizer(["a fine film", "a dull film"], 60, 128).save_pretrained(folder)
