"""Other services' interfaces over the same captions, so that programs people already run can be pointed here.

One file a service, Ollama two. All of them take one picture a request, ignore prompts and sampling parameters (this
model describes pictures and reads no instructions), answer whatever name of a model is asked for with the one model
there is, and refuse pictures by address.
"""
