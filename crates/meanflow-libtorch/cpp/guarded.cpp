// Messages, and the version of the libtorch that is loaded.
#include "guarded.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <new>
#include <stdexcept>

MF_EXPORT(mf_free, (char* message), {
  if (message != mf::no_memory()) std::free(message);
})

// Fails in one of the ways in which C++ can: what the tests of the guard call.
MF_EXPORT(mf_fail, (int way), {
  switch (way) {
    case 0:
      TORCH_CHECK(false, "a refusal of libtorch");
    case 1:
      throw std::runtime_error("a standard exception");
    case 2:
      throw std::bad_alloc();
    case 3:
      throw 3;
    default:
      return;
  }
})

// Major, minor and patch of the libtorch that is loaded, a byte each from the highest on; 0 where it does not say.
MF_EXPORT(mf_loaded_version, (uint64_t* version), {
  void* symbol = dlsym(RTLD_DEFAULT, "aoti_torch_abi_version");
  *version = symbol ? reinterpret_cast<uint64_t (*)()>(symbol)() : 0;
})
