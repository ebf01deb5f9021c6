"""Models: how they are loaded, and the role of each parameter.

loading          one class per source of a model (pretrained, tiny, random)
head             the classification head and its initialisation
weights          checks that a checkpoint is whole and fits its model
parameter_roles  block, kind and layer of a parameter, read from its name
word_tokenizer   a whole-word tokenizer for models that have none
first_token      skip last-layer computation for tokens that the head ignores
"""

from ablate.model.loading import Model, Pretrained, Random, Tiny, Vocabulary

__all__ = ["Model", "Pretrained", "Random", "Tiny", "Vocabulary"]
