"""Training through PyTorch Lightning; it ends by writing a bundle."""
