// Everything but the kernels as one unit: most of the compiler's time goes into reading libtorch's headers, here once.
#include "allocator.cpp"
#include "checkpoint.cpp"
#include "device.cpp"
#include "graph.cpp"
#include "guarded.cpp"
#include "host.cpp"
#include "operations.cpp"
#include "profile.cpp"
