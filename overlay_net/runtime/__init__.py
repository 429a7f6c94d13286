"""Generic building blocks of controllers: work queue, workers, reflector, store and leader election."""
