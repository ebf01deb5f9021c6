"""From config to checked objects. No module here knows a config group by name.

build      build the object that a group's settings describe, and check every setting
checks     the one way to refuse a value: the rule first, then the value
errors     messages for Hydra's and OmegaConf's errors: what is wrong, then the remedy
loader     compose configs as Hydra does, and refuse those that would make Hydra run code
paths      where the config tree and the claims files are
secrets    refuse tokens and passwords in a config
start      the first thing that a command does: it leaves its folder, and obeys signals
terminal   the terminal, on which control characters are shown as escapes
wording    counts, durations and likely intended names, as words
"""
