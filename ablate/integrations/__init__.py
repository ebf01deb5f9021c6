"""Records of runs that other libraries train, for `python -m analysis`.

transformers    a mixin for Hugging Face's Trainer
lightning       a callback for Lightning's Trainer
shared          the mini-batches of a step, and the settings of a library
"""
