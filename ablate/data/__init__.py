"""Data sets, from their source to padded batches of tokens.

sources      one class per kind of data set, and `load_splits`, which returns its checked splits
readers      read CSV, TSV, JSON, JSON lines, Parquet and every other format of `datasets`, row by row
texts        labelled texts and stratified samples of them
synthetic    a seeded grammar that generates film reviews
token_cache  tokenised data sets, cached on this machine
corpus       a data set tokenised for a model
batches      the order of examples and the padded pieces of each step
"""

from ablate.data.sources import Data, Files, Hub, MovieSnippets, Synthetic

__all__ = ["Data", "Files", "Hub", "MovieSnippets", "Synthetic"]
