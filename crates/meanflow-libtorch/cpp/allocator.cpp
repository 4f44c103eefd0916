// How glibc keeps the memory of freed tensors: for the next ones, or not at all.
//
// A training step asks for the same sizes again and again. As it is, glibc gives large blocks back to the system each time,
// and the system clears every page before it hands it out again, which costs more than many operations do.
#include "guarded.h"

// Only once a header of the C library was read is it known which one it is.
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace {

#if defined(__GLIBC__)

// Each thread has an arena of its own: with a common one (M_ARENA_MAX = 1) threads that share a step wait for each other.
void keep() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
}

void give_back_early() {
  mallopt(M_MMAP_MAX, 1 << 16);
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
  mallopt(M_TOP_PAD, 0);
}

#else

void keep() {}
void give_back_early() {}

#endif

}  // namespace

MF_EXPORT(mf_keep_memory, (), { keep(); })

// From now on every tensor is mapped on its own and given back when freed, so that resident memory is live memory.
MF_EXPORT(mf_map_tensors, (), { give_back_early(); })
