"""Scores of captions: the scorers' tokeniser, the metrics, and how varied the captions are."""
