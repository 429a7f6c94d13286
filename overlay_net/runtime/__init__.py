"""Generic parts of control loops: work queue, workers, reflector, store, leader election; independent of overlays."""
