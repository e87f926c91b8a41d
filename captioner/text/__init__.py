"""Captions as words and back: the tokenizer and the vocabulary."""
