"""The web service: captions over HTTP and a page for people. The only package that imports Flask."""
