"""Records of runs that other libraries train, for `python -m analysis`.

transformers    a mixin for Hugging Face's Trainer
"""
