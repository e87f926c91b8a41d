"""The network: encoder, recurrent cells, attention, decoder. It knows no search."""
