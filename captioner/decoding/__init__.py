"""Decoding: from a step function to the best captions. It knows no model.

`options.DecodingOptions` says what to look for, `search.search` looks for it, a `search.Hypothesis` is what comes out.
Nothing is imported here, so that the options can be read without importing torch.
"""
