"""Jobs over many pictures: what is captioned, in which order, and what is written."""
