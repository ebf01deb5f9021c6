"""Models: how they are loaded, and what each of their parameters is.

loading          one class per source of a model (pretrained, tiny, random)
head             the classification head and its start
parameter_roles  block, kind and layer of a parameter, read from its name
word_tokenizer   a tokenizer of whole words, for models that have none
first_token      skips last-layer computation for tokens that the head ignores
"""

from ablate.model.loading import Model, Pretrained, Random, Tiny, Vocabulary

__all__ = ["Model", "Pretrained", "Random", "Tiny", "Vocabulary"]
