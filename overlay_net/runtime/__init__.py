"""Generic control loops: work queue, workers, reflector, store; they do not know what an overlay is."""
