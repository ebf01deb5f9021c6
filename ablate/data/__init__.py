"""Data sets, from their source to padded batches of tokens.

sources      one class per kind of data set, and `load`, which gives its checked splits
readers      rows of CSV, TSV, JSON lines, Parquet and whatever else `datasets` reads
texts        texts with their classes; stratified samples of them
synthetic    a seeded grammar that writes film reviews
token_cache  tokens that are kept on this machine
corpus       a data set in a model's tokens
batches      the order of examples, and the padded pieces of each step
"""

from ablate.data.sources import Data, Files, Hub, MovieSnippets, Synthetic

__all__ = ["Data", "Files", "Hub", "MovieSnippets", "Synthetic"]
