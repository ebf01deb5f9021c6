"""Data sets, from their source to padded batches of tokens.

sources      one class per kind of data set, and `load_splits`, which returns its checked splits
readers      data files of any format -> rows: picks the reader by the file's ending
delimited    rows of CSV and TSV files
json_rows    rows of JSON files
file_bytes   lines and chunks of a text file, unpacked
row_checks   the rules for a row's text and label
texts        labelled texts and stratified samples of them
synthetic    a seeded grammar that generates film reviews
token_cache  tokenised data sets, cached on this machine
hidden_states  outputs of frozen layers, cached on this machine
corpus       a data set tokenised for a model
batches      the order of examples and the padded pieces of each step
"""

from ablate.data.sources import Data, Files, Hub, MovieSnippets, Synthetic

__all__ = ["Data", "Files", "Hub", "MovieSnippets", "Synthetic"]
