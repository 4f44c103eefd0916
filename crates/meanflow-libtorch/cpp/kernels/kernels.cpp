// The kernels as one unit, as border.cpp is.
#include "attention.cpp"
#include "gate.cpp"
#include "gelu.cpp"
#include "linear.cpp"
#include "norm.cpp"
#include "rounded.cpp"
