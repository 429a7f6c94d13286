// The first container of every pod of the lab's cluster.
module overlay-net/lab/pause

go 1.26.0
