"""Data sets, from their source to padded batches of tokens.

sources      one class per kind of data set, and `load_splits`, which returns its checked splits
snippets     short texts with mean ratings, as splits
readers      data files of any format -> rows: picks the reader by the file's ending
delimited    rows of CSV and TSV files
json_rows    rows of JSON files
conll        sentences of CoNLL files
saved        folders that `save_to_disk` of `datasets` wrote
file_bytes   lines and chunks of a text file, unpacked
columns      the columns that a task reads
row_checks   the rules for a row's text and label
labels       numbers for class names, and the rules that the splits of a data set keep together
texts        labelled texts and stratified samples of them
synthetic    a seeded grammar that generates film reviews
token_cache  tokenised data sets, cached on this machine
hidden_states  outputs of frozen layers, cached on this machine
tokens       texts, pairs, labelled words and running text as token ids
corpus       a data set tokenised for a model
batches      the order of examples and the padded pieces of each step
"""

from ablate.data.sources import (
    AmazonSnippets,
    Data,
    EditorialSnippets,
    Files,
    Hub,
    MovieSnippets,
    Synthetic,
    Tweets,
)

__all__ = ["AmazonSnippets", "Data", "EditorialSnippets", "Files", "Hub", "MovieSnippets", "Synthetic", "Tweets"]
