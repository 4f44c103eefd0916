// Functions of libraries that are loaded at run time.
#pragma once

#include <c10/util/Exception.h>
#include <dlfcn.h>

namespace mf {

// The function of a mangled name in whatever is loaded: programs are linked with the CPU part of libtorch alone.
template <typename F>
F* exported(const char* name) {
  void* symbol = dlsym(RTLD_DEFAULT, name);
  TORCH_CHECK(symbol, "libtorch's CUDA part has no ", name);
  return reinterpret_cast<F*>(symbol);
}

}  // namespace mf
