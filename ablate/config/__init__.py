"""From config to checked objects. Nothing here knows a config group by name.

build      make the object that a group's settings describe, and check every setting
checks     the one way in which a setting reports a value out of range
errors     Hydra's and OmegaConf's errors as messages with a remedy
paths      where the config tree and the claims files are
secrets    refuse tokens and passwords in a config
wording    counts, durations and likely intended names, as words
"""
